"""Batches: what waits when one ends is the next; nobody waits for others, nobody gets another's answer."""

import asyncio
import types

from hypothesis import given
from hypothesis import strategies as st

from services.scoring.batching import Batcher


class Work:
    """Answers a batch with its rows, once it is let go; keeps the sizes of all batches."""

    def __init__(self, *, held=False):
        self.sizes = []
        self.go = asyncio.Event()
        if not held:
            self.go.set()

    async def __call__(self, events):
        self.sizes.append(len(events))
        await self.go.wait()
        if "poison" in events:
            raise ValueError("poison")
        return types.SimpleNamespace(rows=list(events))


def own(part):
    return part.scored.rows[part.first : part.behind]


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=5), min_size=1, max_size=30), st.integers(1, 8))
def test_everybody_gets_the_answers_to_its_own_rows_in_order(requests, rows_max):
    async def crowd():
        work = Work()
        batcher = Batcher(work, rows_max=rows_max, batches_max=1)
        parts = await asyncio.gather(*(batcher.ask(events) for events in requests))
        assert [own(part) for part in parts] == requests
        assert max(work.sizes) <= max(rows_max, *map(len, requests))

    asyncio.run(crowd())


def test_an_idle_batcher_answers_at_once_and_alone():
    async def two_in_turn():
        work = Work()
        batcher = Batcher(work, rows_max=10, batches_max=1)
        assert own(await batcher.ask([1])) == [1]
        assert own(await batcher.ask([2])) == [2]
        assert work.sizes == [1, 1]

    asyncio.run(two_in_turn())


def test_what_comes_while_a_batch_is_at_work_is_the_next_batch():
    async def crowd():
        work = Work(held=True)
        batcher = Batcher(work, rows_max=10, batches_max=1)
        asking = []
        for number in range(13):
            asking.append(asyncio.create_task(batcher.ask([number])))
            await asyncio.sleep(0.001)
        work.go.set()
        assert [own(part) for part in await asyncio.gather(*asking)] == [[number] for number in range(13)]
        assert work.sizes == [1, 10, 2]

    asyncio.run(crowd())


def test_as_many_batches_are_at_work_as_the_model_has_threads():
    async def crowd():
        work = Work(held=True)
        batcher = Batcher(work, rows_max=1, batches_max=2)
        asking = [asyncio.create_task(batcher.ask([number])) for number in range(4)]
        await asyncio.sleep(0.01)
        assert work.sizes == [1, 1]
        work.go.set()
        await asyncio.gather(*asking)
        assert work.sizes == [1, 1, 1, 1]

    asyncio.run(crowd())


def test_a_batch_that_fails_tells_each_of_its_callers_and_the_next_goes_on():
    async def crowd():
        batcher = Batcher(Work(), rows_max=10, batches_max=1)
        outcomes = await asyncio.gather(batcher.ask([1]), batcher.ask(["poison"]), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["poison", "poison"]
        assert own(await batcher.ask([3])) == [3]

    asyncio.run(crowd())


def test_whoever_waits_no_longer_is_left_out_of_the_next_batch():
    async def crowd():
        work = Work(held=True)
        batcher = Batcher(work, rows_max=10, batches_max=1)
        first = asyncio.create_task(batcher.ask([0]))
        await asyncio.sleep(0.01)
        gone, last = (asyncio.create_task(batcher.ask([number])) for number in (1, 2))
        await asyncio.sleep(0.01)
        gone.cancel()
        work.go.set()
        assert own(await first) == [0]
        assert own(await last) == [2]
        assert work.sizes == [1, 1]

    asyncio.run(crowd())
