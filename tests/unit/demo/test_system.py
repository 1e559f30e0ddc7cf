"""Work in the background of the demo's start, and the CPU time of what it started."""

import threading

import pytest

from services.demo import system
from tests.waiting import LIVENESS_SECONDS


def test_background_work_returns_its_result() -> None:
    assert system.in_background(lambda: 42).result(10) == 42


def test_background_work_raises_its_error() -> None:
    def fail() -> None:
        raise ValueError("the flights are missing")

    with pytest.raises(ValueError, match="the flights are missing"):
        system.in_background(fail).result(10)


def test_background_work_does_not_keep_the_program_alive() -> None:
    release = threading.Event()
    before = set(threading.enumerate())
    future = system.in_background(lambda: release.wait(LIVENESS_SECONDS))
    (thread,) = [each for each in threading.enumerate() if each not in before]
    assert thread.daemon
    release.set()
    assert future.result(10)


def test_cpu_time_of_the_demo_itself_is_counted() -> None:
    assert system.cpu_seconds([])["demo"] > 0
