"""The lanes of the batch engine, without a broker."""

import asyncio
import dataclasses

import pytest
from faust.types import TP

from streams import batches
from streams.batches import Lanes, Slice, SliceObserver


@dataclasses.dataclass
class Record:
    offset: int
    serialized_key_size: int = 2
    serialized_value_size: int = 8


def slice_of(*offsets: int, partition: int = 0) -> Slice:
    return Slice("t", partition, [Record(offset) for offset in offsets], caught_up=False)


class Handler:
    """Handles slices when it is told to."""

    def __init__(self):
        self.seen: list[int] = []
        self.sizes: list[int] = []
        self.failures = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, slice_):
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the sink is gone")
        self.sizes.append(len(slice_.records))
        self.seen += [record.offset for record in slice_.records]
        slice_.ack()


async def settle(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is awaited is the state of the lanes
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch):
    monkeypatch.setattr(batches, "RETRY_SECONDS_MIN", 0.001)


def run(test):
    async def within():
        lanes = Lanes(in_flight_bytes_max=100, slice_records_max=4, observer=SliceObserver())
        try:
            await test(lanes, Handler())
        finally:
            await lanes.close(drain_seconds=0)

    asyncio.run(within())


def test_slices_of_a_partition_are_handled_in_order_and_then_committable():
    async def test(lanes, handler):
        lanes.put(TP("t", 0), slice_of(0, 1, 2), handler)
        lanes.put(TP("t", 0), slice_of(3, 7), handler)
        await settle(lambda: handler.seen == [0, 1, 2, 3, 7])
        await settle(lambda: dict(lanes.committable()) == {TP("t", 0): 8})

    run(test)


def test_nothing_is_committable_before_the_sink_has_confirmed():
    async def test(lanes, handler):
        handler.gate.clear()
        lanes.put(TP("t", 0), slice_of(0, 1), handler)
        await asyncio.sleep(0.01)
        assert dict(lanes.committable()) == {}
        handler.gate.set()
        await settle(lambda: dict(lanes.committable()) == {TP("t", 0): 2})

    run(test)


def test_failed_slice_is_handled_again_before_the_next_one():
    async def test(lanes, handler):
        handler.failures = 3
        lanes.put(TP("t", 0), slice_of(0), handler)
        lanes.put(TP("t", 0), slice_of(1), handler)
        await settle(lambda: handler.seen == [0, 1])

    run(test)


def test_failing_partition_does_not_hold_up_another():
    async def test(lanes, handler):
        async def broken(_slice):
            raise ValueError("always")

        lanes.put(TP("t", 0), slice_of(0), broken)
        lanes.put(TP("t", 1), slice_of(5, partition=1), handler)
        await settle(lambda: dict(lanes.committable()) == {TP("t", 1): 6})

    run(test)


def test_handler_that_forgets_to_acknowledge_commits_nothing():
    async def test(lanes, _handler):
        retries = []
        lanes.observer = SliceObserver(on_retry=lambda: retries.append(1))

        async def forgetful(_slice):
            return

        lanes.put(TP("t", 0), slice_of(0), forgetful)
        await settle(lambda: len(retries) > 1)
        assert dict(lanes.committable()) == {}

    run(test)


def test_full_lane_and_full_process_say_so():
    async def test(lanes, handler):
        handler.gate.clear()
        lanes.put(TP("t", 0), slice_of(0, 1), handler)
        await asyncio.sleep(0.01)
        assert not lanes.is_full(TP("t", 0))
        lanes.put(TP("t", 0), slice_of(2, 3), handler)
        assert lanes.is_full(TP("t", 0))
        assert lanes.has_room
        lanes.put(TP("t", 1), slice_of(*range(6), partition=1), handler)
        assert lanes.in_flight_bytes == 100
        assert not lanes.has_room
        handler.gate.set()
        await settle(lambda: lanes.in_flight_bytes == 0)
        assert lanes.has_room

    run(test)


def test_small_slices_that_wait_become_one_within_the_limit():
    """However small the fetches are, work catches up, and a lane always has a bound."""

    async def test(lanes, handler):
        handler.gate.clear()
        lanes.put(TP("t", 0), slice_of(0), handler)
        await asyncio.sleep(0.01)
        for offset in (1, 2):
            assert not lanes.is_full(TP("t", 0))
            lanes.put(TP("t", 0), slice_of(offset), handler)
        assert lanes.is_full(TP("t", 0))
        lanes.put(TP("t", 0), slice_of(3, 4, 5), handler)
        handler.gate.set()
        await settle(lambda: handler.sizes == [1, 2, 3])
        assert handler.seen == [0, 1, 2, 3, 4, 5]
        assert lanes.in_flight_bytes == 0

    run(test)


def test_joined_slices_tell_of_the_first_begin_and_the_last_end():
    """What follows what, and whether all has been fetched, stays true of the whole."""
    joined = dataclasses.replace(slice_of(7, 9), follows=5)
    joined.extend(dataclasses.replace(slice_of(12), follows=10, caught_up=True))
    assert (joined.first_offset, joined.next_offset, joined.caught_up) == (5, 13, True)


class Overlapping(Handler):
    """Begins at once, and writes in its turn; the first one waits for the gate."""

    def __init__(self):
        super().__init__()
        self.begun: list[int] = []

    async def __call__(self, slice_):
        self.begun.append(slice_.first_offset)
        await slice_.turn()
        await super().__call__(slice_)


def test_next_slice_begins_while_the_one_before_is_written_and_is_written_after_it():
    async def test(lanes, _handler):
        handler = Overlapping()
        handler.gate.clear()
        for offset in (0, 3, 6):
            lanes.put(TP("t", 0), slice_of(offset, offset + 1, offset + 2), handler, at_once=2)
        await settle(lambda: handler.begun == [0, 3])
        await asyncio.sleep(0.01)
        assert handler.begun == [0, 3]
        handler.failures = 2
        handler.gate.set()
        await settle(lambda: handler.sizes == [3, 3, 3])
        assert handler.seen == list(range(9))
        await settle(lambda: dict(lanes.committable()) == {TP("t", 0): 9})

    run(test)


def test_no_commit_passes_an_unfinished_slice_even_if_the_handler_does_not_wait_for_its_turn():
    async def test(lanes, _handler):
        gate = asyncio.Event()
        ended = []

        async def hasty(slice_):
            if slice_.first_offset == 0:
                await gate.wait()
            slice_.ack()
            ended.append(slice_.first_offset)

        lanes.put(TP("t", 0), slice_of(0, 1, 2), hasty, at_once=2)
        lanes.put(TP("t", 0), slice_of(3, 4), hasty, at_once=2)
        await settle(lambda: ended == [3])
        await asyncio.sleep(0.01)
        assert dict(lanes.committable()) == {}
        gate.set()
        await settle(lambda: dict(lanes.committable()) == {TP("t", 0): 5})

    run(test)


def test_close_lets_the_slice_in_work_finish_and_drops_what_waits():
    async def test(lanes, handler):
        handler.gate.clear()
        lanes.put(TP("t", 0), slice_of(0), handler)
        await asyncio.sleep(0.01)
        lanes.put(TP("t", 0), slice_of(1), handler)
        closing = asyncio.create_task(lanes.close(drain_seconds=5))
        await asyncio.sleep(0.01)
        handler.gate.set()
        await closing
        assert dict(lanes.committable()) == {TP("t", 0): 1}
        assert lanes.in_flight_bytes == 0

    run(test)


def test_close_is_bounded_when_the_slice_in_work_hangs():
    async def test(lanes, handler):
        handler.gate.clear()
        lanes.put(TP("t", 0), slice_of(0), handler)
        await asyncio.sleep(0.01)
        async with asyncio.timeout(2):
            await lanes.close(drain_seconds=0.05)
        assert dict(lanes.committable()) == {}
        assert lanes.in_flight_bytes == 0

    run(test)


def test_slice_begins_where_the_one_before_it_ended_also_where_offsets_have_gaps():
    assert slice_of(7, 9).first_offset == 7
    assert dataclasses.replace(slice_of(7, 9), follows=5).first_offset == 5
    assert dataclasses.replace(slice_of(7, 9), follows=8).first_offset == 7  # of an assignment that is over
