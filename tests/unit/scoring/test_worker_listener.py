"""A worker listens when its models are ready, or after a while to say what is missing."""

import asyncio
import socket
from typing import Any

import pytest

from services.operations.local_servers import ports
from services.runtime.settings import Settings
from services.runtime.web import server
from services.scoring import worker_listener
from services.scoring.worker_listener import WorkerListener
from tests.waiting import LIVENESS_SECONDS

PARENT = 7


def listener(port: int, reasons: list[str], *, parent: int | None = PARENT) -> WorkerListener:
    settings = Settings().model_copy(update={"host": "127.0.0.1", "scoring_port": port})
    app: Any = server.application(lambda: None)
    not_ready = lambda: reasons[0] if reasons else None  # noqa: E731
    return WorkerListener(app, settings, not_ready, parent=parent, parent_now=lambda: PARENT)


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def until_open(port: int) -> None:
    async with asyncio.timeout(LIVENESS_SECONDS):
        while not await is_open(port):  # noqa: ASYNC110  # a port has no event
            await asyncio.sleep(0.01)


def test_a_worker_listens_when_it_is_ready():
    port, reasons = ports.free_port(), ["loading models: m"]

    async def run() -> None:
        subject = listener(port, reasons)
        async with subject.running():
            await asyncio.sleep(0)
            assert not await is_open(port)
            reasons.clear()
            await until_open(port)
            assert subject.failure() is None

    asyncio.run(run())


def test_a_worker_that_never_gets_ready_listens_to_say_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_listener, "READY_SECONDS_MAX", 0.0)
    port = ports.free_port()

    async def run() -> None:
        async with listener(port, ["no model is deployed"]).running():
            await until_open(port)

    asyncio.run(run())


def test_a_worker_that_is_stopped_before_it_is_ready_ends_without_listening():
    async def run() -> None:
        async with listener(ports.free_port(), ["loading models: m"]).running():
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), LIVENESS_SECONDS))


def test_a_worker_cannot_continue_without_its_parent():
    assert listener(1, [], parent=PARENT + 1).failure() == "the parent process has ended"
    assert listener(1, [], parent=None).failure() is None


def test_a_process_that_is_alone_listens_at_once():
    port = ports.free_port()

    async def run() -> None:
        async with listener(port, ["loading models: m"], parent=None).running():
            await until_open(port)

    asyncio.run(run())
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
