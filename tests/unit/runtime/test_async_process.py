"""A process begins again while a server is away. Background work is stopped, awaited, and may fail."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator

import pytest

from services.runtime import async_process
from services.runtime.async_process import BackgroundTask, StartOutageError


def test_work_is_told_to_stop_and_awaited() -> None:
    finished = []

    async def work(stopping: asyncio.Event) -> None:
        await stopping.wait()
        await asyncio.sleep(0)
        finished.append(True)

    async def scenario() -> None:
        task = BackgroundTask("work", work)
        assert task.failure() is None
        async with task.running():
            await asyncio.sleep(0)
            assert task.failure() is None

    asyncio.run(scenario())
    assert finished == [True]


def test_work_that_fails_is_a_failure_and_its_error_is_raised_at_the_end() -> None:
    async def work(_: asyncio.Event) -> None:
        raise ZeroDivisionError("broken")

    task, reasons = BackgroundTask("archive", work), []

    async def scenario() -> None:
        async with task.running():
            await asyncio.sleep(0)
            reasons.append(task.failure())

    with pytest.raises(ZeroDivisionError):
        asyncio.run(scenario())
    assert reasons == ["archive ended: ZeroDivisionError('broken')"]


def test_work_that_was_cancelled_is_a_failure() -> None:
    async def work(_: asyncio.Event) -> None:
        raise asyncio.CancelledError

    task, reasons = BackgroundTask("archive", work), []

    async def scenario() -> None:
        async with task.running():
            await asyncio.sleep(0)
            reasons.append(task.failure())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scenario())
    assert reasons == ["archive ended: cancelled"]


class Starts:
    """A process whose start fails with each of these errors, and which then runs until its failure."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.left = 0

    def run(self) -> None:
        """Start once."""
        async_process.run(self._first(), self._second(), failure=lambda: "over")

    @contextlib.asynccontextmanager
    async def _first(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.left += 1

    @contextlib.asynccontextmanager
    async def _second(self) -> AsyncIterator[None]:
        if self.errors:
            raise self.errors.pop(0)
        yield


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process ends within bounds, also if threads or children remain."""
    codes: list[int] = []
    monkeypatch.setattr(async_process, "exit_within_bounds", codes.append)
    return codes


class Pauses(threading.Event):
    """Takes no time; a signal comes in the pause with a certain number."""

    def __init__(self, signal_at: int | None = None) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._signal_at = signal_at

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seconds.append(timeout)
        if len(self.seconds) == self._signal_at:
            signal.raise_signal(signal.SIGTERM)
        return self.is_set()


@pytest.fixture
def pauses(bounded: list[int]) -> Pauses:
    return Pauses()


def test_a_process_begins_again_while_a_server_is_away_at_its_start(pauses: Pauses) -> None:
    """What it has entered is left each time. Once it runs, it ends as ever."""
    process = Starts(ConnectionRefusedError("away"), *[TimeoutError("away")] * 5)
    with pytest.raises(SystemExit):
        async_process.run_again(process.run, pauses)
    assert process.left == 7
    assert pauses.seconds == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_signal_between_two_starts_ends_the_process(bounded: list[int]) -> None:
    """The event loop is closed then; its handler of the signal would lose it."""
    pauses = Pauses(signal_at=2)
    process = Starts(*[ConnectionRefusedError("away")] * 3)
    async_process.run_again(process.run, pauses)
    assert pauses.seconds == [0.5, 1.0]
    assert bounded == [0]


def test_a_running_process_that_has_to_start_again_has_no_time_limit(
    pauses: Pauses, bounded: list[int]
) -> None:
    reasons = iter([StartOutageError("the topic was recreated")])

    def failure() -> str:
        for reason in reasons:
            raise reason
        return "over"

    with pytest.raises(SystemExit):
        async_process.run_again(lambda: async_process.run(failure=failure), pauses)
    assert pauses.seconds == [0.5]
    assert bounded == [1, 1], "both limits are of the failure at the end"


def test_a_process_whose_start_has_a_defect_ends_within_bounds(pauses: Pauses, bounded: list[int]) -> None:
    process = Starts(ZeroDivisionError("broken"))
    with pytest.raises(ZeroDivisionError):
        async_process.run_again(process.run, pauses)
    assert pauses.seconds == []
    assert set(bounded) == {1}


def test_a_process_that_cannot_be_made_ends_within_bounds(bounded: list[int]) -> None:
    """It may have started others, for which Python waits at its end."""

    def make() -> None:
        raise ZeroDivisionError("broken")

    with pytest.raises(ZeroDivisionError):
        async_process.run_again(make)
    assert bounded == [1]
