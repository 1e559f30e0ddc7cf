"""Sessions, one after another: what starts a new one, what is reported meanwhile, what ends the process."""

import contextlib
import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka.errors import KafkaError, KafkaTimeoutError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from services.runtime import blocking_process, logs, session_failures
from services.runtime.blocking_process import Process
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.kafka_outbox import StoppedError
from services.runtime.settings import Settings, Token
from services.runtime.web import server
from streams import garbage
from streams.schemas import SchemaRegistryUnavailableError


class Steps:
    """A session that takes its steps from a list and stops the process after the last one."""

    def __init__(self, stopping: threading.Event, steps: list[Callable[[], None]]) -> None:
        self.kept = 0
        self._stopping = stopping
        self._steps = steps

    def step(self) -> None:
        if not self._steps:
            self._stopping.set()
            return
        self._steps.pop(0)()

    def keep_all(self) -> None:
        self.kept += 1


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_failures, "RETRY_SECONDS_MIN", 0.0)


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def run(steps: list[Callable[[], None]]) -> list[Steps]:
    stopping = threading.Event()
    sessions: list[Steps] = []

    @contextlib.contextmanager
    def opened(stopping: threading.Event) -> Iterator[Steps]:
        sessions.append(Steps(stopping, steps))
        yield sessions[-1]

    Process(opened, stopping).run()
    return sessions


def test_the_last_session_keeps_its_state() -> None:
    (session,) = run([lambda: None, lambda: None])
    assert session.kept == 1


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    "error",
    [
        KafkaTimeoutError("silent"),
        MissingTopicError("no topic"),
        SchemaRegistryUnavailableError("no registry"),
        ZeroDivisionError("a defect of ours"),
    ],
)
def test_an_error_starts_a_new_session_and_keeps_nothing(error: Exception) -> None:
    first, second = run([raising(error)])
    assert (first.kept, second.kept) == (0, 1)


def test_a_stop_while_kafka_does_not_answer_ends_the_session_without_keeping() -> None:
    stopping = threading.Event()
    kept = []

    class Stopped:
        def step(self) -> None:
            stopping.set()
            raise StoppedError("stopped")

        def keep_all(self) -> None:
            kept.append(1)

    Process(lambda _: contextlib.nullcontext(Stopped()), stopping).run()
    assert kept == []


def test_a_session_that_is_over_keeps_its_state_and_is_followed_by_another() -> None:
    stopping, answers = threading.Event(), iter([False, True, False])
    sessions: list[Steps] = []

    @contextlib.contextmanager
    def opened(stopping: threading.Event) -> Iterator[Steps]:
        sessions.append(Steps(stopping, steps))
        yield sessions[-1]

    steps: list[Callable[[], None]] = [lambda: None, lambda: None]
    Process(opened, stopping, lambda: next(answers, False)).run()
    assert [session.kept for session in sessions] == [1, 1]


def test_readiness_names_the_error_until_the_next_session_is_open() -> None:
    stopping = threading.Event()
    reasons = []

    @contextlib.contextmanager
    def opened(_: threading.Event) -> Iterator[Steps]:
        reasons.append(process.not_ready())
        if len(reasons) == 1:
            raise KafkaError("away")
        yield Steps(stopping, [lambda: reasons.append(process.not_ready())])

    process = Process(opened, stopping)
    process.run()
    assert reasons[0] == "starting"
    assert reasons[1] is not None
    assert reasons[1] == "KafkaError: KafkaError: away"
    assert reasons[2] is None


@contextlib.contextmanager
def handlers_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Signalled:
    """Sends this process a signal in its first step."""

    def __init__(self) -> None:
        self.steps = 0
        self.kept = 0

    def step(self) -> None:
        self.steps += 1
        os.kill(os.getpid(), signal.SIGTERM)

    def keep_all(self) -> None:
        self.kept += 1


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Neither serve HTTP nor end the test's own process; collect the times after which it would end."""
    exits: list[float] = []
    monkeypatch.setattr(server, "serve_in_thread", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(logs, "configure_logging", lambda *_: None)
    monkeypatch.setattr(garbage, "settle", lambda: None)
    monkeypatch.setattr(blocking_process, "exit_within_bounds", lambda *, seconds: exits.append(seconds))
    with handlers_restored():
        yield exits


def test_a_signal_lets_the_step_finish_and_the_state_be_kept(alone: list[float]) -> None:
    session = Signalled()
    blocking_process.run("test", Settings(_env_file=None), 0, lambda _: contextlib.nullcontext(session))
    assert (session.steps, session.kept, alone) == (1, 1, [])


def test_a_process_that_is_interrupted_ends_in_the_middle_of_a_step_within_bounds(alone: list[float]) -> None:
    session = Signalled()
    with pytest.raises(KeyboardInterrupt):
        blocking_process.run(
            "test",
            Settings(_env_file=None),
            0,
            lambda _: contextlib.nullcontext(session),
            interrupt=True,
        )
    assert (session.kept, alone) == (0, [blocking_process.INTERRUPT_SECONDS_MAX])


@pytest.mark.usefixtures("alone")
def test_routes_of_a_process_need_its_tokens_and_health_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(_: Request) -> Response:
        return PlainTextResponse("done")

    served: list[Any] = []

    def serve(app: Any, *_: object) -> contextlib.AbstractContextManager[None]:
        served.append(app)
        return contextlib.nullcontext()

    monkeypatch.setattr(server, "serve_in_thread", serve)
    blocking_process.run(
        "test",
        Settings(_env_file=None),
        0,
        lambda _: contextlib.nullcontext(Signalled()),
        routes=[Route("/work", work)],
        tokens=[Token(hashlib.sha256(b"one").digest())],
    )
    http = TestClient(served[0])
    given = [http.get("/work", headers=headers) for headers in ({}, {"Authorization": "Bearer one"})]
    assert [each.status_code for each in given] == [401, 200]
    assert http.get("/health/live").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_stop_event(number: signal.Signals) -> None:
    previous = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        stopping = blocking_process.stop_event()
        assert not stopping.is_set()
        signal.raise_signal(number)
        assert stopping.is_set()
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
