"""Work beside the rest of a process: it is stopped and awaited, and its end is a failure."""

import asyncio

import pytest

from services.runtime.async_process import BackgroundTask


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
