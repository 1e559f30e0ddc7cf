"""Fixtures that several flows share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.flow.demo_process import DemoProcess


@pytest.fixture
def client(valkey: str) -> Iterator[Any]:
    """A client of an online store that is empty before and after the test."""
    with redis.Redis.from_url(valkey) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[Callable[..., DemoProcess]]:
    """Starts ``driftline demo`` with options; what still runs at the end is killed."""
    demos: list[DemoProcess] = []

    def begin(*options: str) -> DemoProcess:
        demos.append(DemoProcess(tmp_path, *options))
        return demos[-1]

    yield begin
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()
