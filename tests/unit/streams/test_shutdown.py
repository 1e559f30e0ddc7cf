import os
import threading
from typing import Any

import pytest

from streams import shutdown

PROMISED_SECONDS = 10


class Timer:
    """A timer that never fires."""

    started: list["Timer"]

    def __init__(self, seconds: float, function: Any, arguments: list[Any]) -> None:
        self.seconds, self.function, self.arguments = seconds, function, arguments
        self.daemon = False

    def start(self) -> None:
        self.started.append(self)


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[Timer]:
    """The timers that were started."""
    Timer.started = []
    monkeypatch.setattr(threading, "Timer", Timer)
    return Timer.started


def test_the_process_is_ended_within_the_promised_time(timers: list[Timer]) -> None:
    shutdown.exit_within_bounds()
    (timer,) = timers
    assert shutdown.STOP_SECONDS < timer.seconds < PROMISED_SECONDS
    assert (timer.function, timer.arguments) == (os._exit, [0])


def test_a_process_that_ends_earlier_does_not_wait_for_the_timer(timers: list[Timer]) -> None:
    shutdown.exit_within_bounds(3, 0.5)
    (timer,) = timers
    assert timer.daemon
    assert (timer.seconds, timer.arguments) == (0.5, [3])
