"""The calls that wait when a batch ends form the next one; each call gets the result of its rows."""

import asyncio
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.batcher import Batcher
from streams.defects import PanicError
from tests.unit.scoring.fakes import settle
from tests.waiting import LIVENESS_SECONDS


class Work:
    """Returns the rows of a batch once it is released; keeps the sizes of all batches."""

    def __init__(self, *, is_released=True, error=ValueError):
        self.error = error
        self.sizes = []
        self.release = asyncio.Event()
        if is_released:
            self.release.set()

    async def __call__(self, events):
        self.sizes.append(len(events))
        await self.release.wait()
        if "poison" in events:
            raise self.error("poison")
        return types.SimpleNamespace(rows=list(events))


def rows(part):
    return part.result.rows[part.start : part.stop]


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=5), min_size=1, max_size=30), st.integers(1, 8))
def test_each_caller_gets_the_result_of_its_own_rows_in_order(requests, rows_max):
    async def run():
        work = Work()
        batcher = Batcher(work, rows_max=rows_max, batches_max=1)
        parts = await asyncio.gather(*(batcher.submit(events) for events in requests))
        assert [rows(part) for part in parts] == requests
        assert [len(part.rows) for part in parts] == [len(events) for events in requests]
        assert max(work.sizes) <= max(rows_max, *map(len, requests))

    asyncio.run(run())


def test_an_idle_batcher_processes_a_call_at_once_and_alone():
    async def run():
        work = Work()
        batcher = Batcher(work, rows_max=10, batches_max=1)
        assert rows(await batcher.submit([1])) == [1]
        assert rows(await batcher.submit([2])) == [2]
        assert work.sizes == [1, 1]

    asyncio.run(run())


def test_calls_during_a_batch_form_the_next_one():
    async def run():
        work = Work(is_released=False)
        batcher = Batcher(work, rows_max=10, batches_max=1)
        calls = []
        for number in range(13):
            calls.append(asyncio.create_task(batcher.submit([number])))
            await settle()
        work.release.set()
        assert [rows(part) for part in await asyncio.gather(*calls)] == [[number] for number in range(13)]
        assert work.sizes == [1, 10, 2]

    asyncio.run(run())


def test_no_more_batches_are_in_progress_than_allowed():
    async def run():
        work = Work(is_released=False)
        batcher = Batcher(work, rows_max=1, batches_max=2)
        calls = [asyncio.create_task(batcher.submit([number])) for number in range(4)]
        await settle()
        assert work.sizes == [1, 1]
        work.release.set()
        await asyncio.gather(*calls)
        assert work.sizes == [1, 1, 1, 1]

    asyncio.run(run())


def test_a_call_at_fault_raises_alone_and_the_others_of_its_batch_succeed():
    async def run():
        work = Work()
        batcher = Batcher(work, rows_max=10, batches_max=1)
        outcomes = await asyncio.gather(
            batcher.submit([1]), batcher.submit(["poison"]), batcher.submit([2]), return_exceptions=True
        )
        assert [str(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == ["poison"]
        assert [rows(outcome) for outcome in outcomes if not isinstance(outcome, Exception)] == [[1], [2]]
        assert work.sizes == [3, 1, 1, 1]
        assert rows(await batcher.submit([3])) == [3]

    asyncio.run(run())


def test_an_outage_raises_in_each_caller_and_is_not_repeated():
    async def run():
        work = Work(error=ConnectionError)
        batcher = Batcher(work, rows_max=10, batches_max=1)
        outcomes = await asyncio.gather(
            batcher.submit([1]), batcher.submit(["poison"]), return_exceptions=True
        )
        assert [str(outcome) for outcome in outcomes] == ["poison", "poison"]
        assert work.sizes == [2]

    asyncio.run(run())


def test_a_cancelled_call_is_left_out_of_the_next_batch():
    async def run():
        work = Work(is_released=False)
        batcher = Batcher(work, rows_max=10, batches_max=1)
        first = asyncio.create_task(batcher.submit([0]))
        await settle()
        cancelled, last = (asyncio.create_task(batcher.submit([number])) for number in (1, 2))
        await settle()
        cancelled.cancel()
        work.release.set()
        assert rows(await first) == [0]
        assert rows(await last) == [2]
        assert work.sizes == [1, 1]

    asyncio.run(run())


class Panic(BaseException):
    """As a library in Rust raises."""


@pytest.mark.parametrize(("error", "raised"), [(Panic, PanicError), (asyncio.CancelledError, None)])
def test_no_caller_waits_for_ever_for_a_batch_that_ended_without_an_ordinary_error(error, raised):
    """What a batch waits for may be cancelled; then its callers may ask again."""

    async def run():
        batcher = Batcher(Work(error=error), rows_max=10, batches_max=1)
        calls = [asyncio.create_task(batcher.submit([event])) for event in ("poison", "good")]
        done, waiting = await asyncio.wait(calls, timeout=LIVENESS_SECONDS)
        assert not waiting
        assert calls[0].cancelled() if raised is None else isinstance(calls[0].exception(), raised)
        assert len(done) == 2
        assert rows(await batcher.submit(["next"])) == ["next"]

    asyncio.run(run())
