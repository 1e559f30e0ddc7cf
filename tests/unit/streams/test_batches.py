"""The lanes of the batch engine, without a broker."""

import asyncio
import dataclasses

import hypothesis
import pytest
import structlog
from faust.types import TP
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.batches import BLOCKED_SECONDS, Lanes
from streams.slices import Slice, SliceObserver
from tests.waiting import LIVENESS_SECONDS


@dataclasses.dataclass
class Record:
    offset: int
    serialized_key_size: int = 2
    serialized_value_size: int = 8


def slice_of(*offsets: int, partition: int = 0, follows: int | None = None) -> Slice:
    return Slice("t", partition, [Record(offset) for offset in offsets], caught_up=False, follows=follows)


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
    async with asyncio.timeout(LIVENESS_SECONDS):
        while not condition():  # noqa: ASYNC110  # what is awaited is the state of the lanes
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    """Rendering the stack of each error would take most of the time."""
    with structlog.testing.capture_logs():
        yield


async def no_pause(_seconds):
    await asyncio.sleep(0)


def run(test):
    async def within():
        observer = SliceObserver()
        lanes = Lanes(in_flight_bytes_max=100, slice_records_max=4, observer=observer, sleep=no_pause)
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


def test_lag_counts_what_the_sink_has_not_confirmed():
    """Also what was fetched, and whatever order the partition waits in."""
    lags = []

    async def run():
        lanes, handler = Lanes(1 << 20, 2, SliceObserver(on_lag=lambda *lag: lags.append(lag))), Handler()
        handler.gate.clear()
        for offsets in ((5, 6), (7, 8)):
            lanes.put(TP("t", 0), dataclasses.replace(slice_of(*offsets), end=10), handler)
        assert lags == [("t", 0, 5), ("t", 0, 5)]
        handler.gate.set()
        await settle(lambda: len(handler.seen) == 4)
        await lanes.close()

    asyncio.run(run())
    assert lags[2:] == [("t", 0, 3), ("t", 0, 1)]


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
        await settle(lambda: lanes.in_flight_bytes == 0)

    run(test)


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
        closing = asyncio.create_task(lanes.close(drain_seconds=LIVENESS_SECONDS))
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
        async with asyncio.timeout(LIVENESS_SECONDS):
            await lanes.close(drain_seconds=0.05)
        assert dict(lanes.committable()) == {}
        assert lanes.in_flight_bytes == 0

    run(test)


def test_close_releases_a_slice_whose_handling_has_not_begun():
    async def test(lanes, handler):
        lanes.put(TP("t", 0), slice_of(0), handler)
        await asyncio.sleep(0)  # the lane has made the task of the slice, and it has not run
        await lanes.close(drain_seconds=0)
        assert lanes.in_flight_bytes == 0

    run(test)


def test_closed_lanes_refuse_slices_until_the_next_assignment():
    """A slice on its way to its lane must not be handled: the slices before it are dropped."""

    async def test(lanes, handler):
        handler.gate.clear()
        lanes.put(TP("t", 0), slice_of(0), handler)
        closing = asyncio.create_task(lanes.close(drain_seconds=LIVENESS_SECONDS))
        await asyncio.sleep(0)
        assert not lanes.put(TP("t", 0), slice_of(1), handler)
        handler.gate.set()
        await closing
        assert dict(lanes.committable()) == {TP("t", 0): 1}
        lanes.forget()
        assert not lanes.put(TP("t", 0), slice_of(2), handler)
        lanes.open()
        assert lanes.put(TP("t", 0), slice_of(1), handler)
        await settle(lambda: handler.seen == [0, 1])
        await settle(lambda: lanes.in_flight_bytes == 0)

    run(test)


def test_slice_after_a_lost_one_is_refused_and_the_lost_one_is_read_again():
    async def test(lanes, handler):
        tp = TP("t", 0)
        lanes.expect(tp, 5)
        assert lanes.put(tp, slice_of(5, 6), handler)
        assert not lanes.put(tp, slice_of(9, follows=8), handler)
        assert not lanes.put(tp, slice_of(10, follows=10), handler)
        assert lanes.take_gaps() == {tp: 7}
        assert lanes.take_gaps() == {}
        assert lanes.put(tp, slice_of(7, 8, follows=7), handler)
        await settle(lambda: handler.seen == [5, 6, 7, 8])

    run(test)


def test_lost_first_slice_is_noticed():
    async def test(lanes, handler):
        lanes.expect(TP("t", 0), 5)
        assert not lanes.put(TP("t", 0), slice_of(9, follows=8), handler)
        assert lanes.take_gaps() == {TP("t", 0): 5}
        lanes.forget()
        assert lanes.put(TP("t", 0), slice_of(9), handler)

    run(test)


def test_offsets_without_a_record_are_no_gap():
    async def test(lanes, handler):
        lanes.expect(TP("t", 0), 5)
        assert lanes.put(TP("t", 0), slice_of(5, 8), handler)
        assert lanes.put(TP("t", 0), slice_of(20, follows=9), handler)
        await settle(lambda: dict(lanes.committable()) == {TP("t", 0): 21})

    run(test)


def test_error_after_the_acknowledgement_repeats_nothing():
    async def test(lanes, _handler):
        seen = []

        async def late(slice_):
            seen.append(slice_.first_offset)
            slice_.ack()
            raise ValueError("a metric")

        lanes.put(TP("t", 0), slice_of(0, 1, 2), late)
        lanes.put(TP("t", 0), slice_of(3, 4), late)
        await settle(lambda: dict(lanes.committable()) == {TP("t", 0): 5})
        assert seen == [0, 3]

    run(test)


def test_partition_is_blocked_after_a_time_without_success():
    async def within():
        now, seconds = [1000.0], []

        async def pause(pause_seconds):
            seconds.append(pause_seconds)
            await asyncio.sleep(0)

        lanes = Lanes(100, 4, SliceObserver(), sleep=pause, clock=lambda: now[0])
        handler = Handler()
        handler.failures = 1_000_000
        lanes.put(TP("t", 3), slice_of(7, partition=3), handler)
        await settle(lambda: seconds)
        now[0] += BLOCKED_SECONDS - 1
        assert lanes.blocked() == []
        now[0] += 1
        (partition,) = lanes.blocked()
        assert str(partition) == "t/3 waits at offset 7 for 30 s: ConnectionError('the sink is gone')"
        handler.failures = 0
        await settle(lambda: handler.seen == [7])
        assert lanes.blocked() == []
        await lanes.close(drain_seconds=0)

    asyncio.run(within())


def test_partition_whose_record_fails_even_as_a_defect_is_blocked_and_says_so():
    async def within():
        now = [0.0]
        lanes = Lanes(100, 4, SliceObserver(), sleep=no_pause, clock=lambda: now[0])

        async def broken(_slice):
            raise KeyError("setup")

        lanes.put(TP("t", 0), slice_of(7, 8), broken)
        await asyncio.sleep(0.01)
        now[0] += BLOCKED_SECONDS
        await settle(lambda: "no record is at fault" in "".join(map(str, lanes.blocked())))
        assert dict(lanes.committable()) == {}
        await lanes.close(drain_seconds=0)

    asyncio.run(within())


class Sink:
    """A handler that works ahead, writes in turn, and fails on some offsets."""

    def __init__(self, poison):
        self.poison = poison
        self.written: list[int] = []
        self.defects: list[int] = []
        self.follows: list[tuple[int | None, int]] = []

    async def __call__(self, slice_):
        await asyncio.sleep(0)
        for record in slice_.records:
            if record.offset in self.poison and record.offset not in slice_.defects:
                raise ValueError(record.offset)
        await slice_.turn()
        self.written += [record.offset for record in slice_.records]
        self.defects += slice_.defects
        self.follows.append((slice_.follows, slice_.next_offset))
        slice_.ack()


@st.composite
def logs(draw):
    """The offsets of a log with holes, cut into fetches, and some that no handler can take."""
    steps = draw(st.lists(st.integers(1, 3), min_size=1, max_size=60))
    offsets = [sum(steps[:number]) for number in range(1, len(steps) + 1)]
    cuts = sorted(draw(st.sets(st.integers(1, len(offsets)))) | {len(offsets)})
    fetches = [offsets[start:stop] for start, stop in zip([0, *cuts], cuts, strict=False)]
    return offsets, fetches, draw(st.sets(st.sampled_from(offsets)))


@hypothesis.given(logs(), st.integers(1, 2), st.integers(1, 20))
@hypothesis.settings(max_examples=200, deadline=None)
def test_exactly_the_records_at_fault_become_defects_and_all_others_are_written_in_order(
    log, at_once, slice_records_max
):
    offsets, fetches, poison = log

    async def within():
        lanes = Lanes(1 << 20, slice_records_max, SliceObserver(), sleep=no_pause)
        sink, tp, follows = Sink(poison), TP("t", 0), None
        lanes.expect(tp, offsets[0])
        for fetch in fetches:
            assert lanes.put(tp, slice_of(*fetch, follows=follows), sink, at_once)
            follows = fetch[-1] + 1
            await asyncio.sleep(0)
        await settle(lambda: dict(lanes.committable()) == {tp: follows})
        await lanes.close(drain_seconds=0)
        assert lanes.in_flight_bytes == 0
        return sink

    sink = asyncio.run(within())
    assert sink.written == offsets
    assert sink.defects == sorted(poison)
    ends = [end for _, end in sink.follows]
    assert [start for start, _ in sink.follows] == [None, *ends[:-1]]


class Broken:
    """Fails on every record from an offset on, as a wrong release, until it is repaired."""

    def __init__(self, start):
        self.start = start
        self.defects = []

    async def __call__(self, slice_):
        for record in slice_.records:
            is_bad = record.offset >= self.start and record.serialized_value_size >= 0
            if is_bad and record.offset not in slice_.defects:
                raise KeyError(record.offset)
        self.defects += slice_.defects
        slice_.ack()


def held_by(limit, *, heartbeats=()):
    """Handle 40 records of a broken release, then repair it; return defects before and after, and reports."""
    reports = []

    async def within():
        observer = SliceObserver(on_held=lambda *args: reports.append(args))
        lanes = Lanes(1 << 20, 10, observer, defects_in_a_row_max=limit, sleep=no_pause)
        handler, tp = Broken(start=5), TP("t", 0)
        for start in range(0, 40, 10):
            slice_ = slice_of(*range(start, start + 10), follows=start)
            for record in slice_.records:
                record.serialized_value_size = -1 if record.offset in heartbeats else 8
            lanes.put(tp, slice_, handler)
        await settle(lambda: reports or dict(lanes.committable()) == {tp: 40})
        before, handler.start = list(handler.defects), 100
        await settle(lambda: dict(lanes.committable()) == {tp: 40})
        await lanes.close(drain_seconds=0)
        return before, handler.defects

    return *asyncio.run(within()), reports


@pytest.mark.parametrize("heartbeats", [(), (9, 10, 11)])
def test_partition_of_which_every_record_fails_waits_until_one_succeeds(heartbeats):
    """A heartbeat that succeeds proves nothing. After the repair the records are handled as they are."""
    before, after, reports = held_by(7, heartbeats=heartbeats)
    assert before == after == [offset for offset in range(5, 40) if offset not in heartbeats][:7]
    assert reports == [("t", 0, True), ("t", 0, False)]


def test_partition_that_leaves_is_not_held_here_any_more():
    reports = []

    async def within():
        observer = SliceObserver(on_held=lambda *args: reports.append(args))
        lanes = Lanes(1 << 20, 10, observer, defects_in_a_row_max=1, sleep=no_pause)
        lanes.put(TP("t", 0), slice_of(*range(5)), Broken(start=0))
        await settle(lambda: reports)
        await lanes.close(drain_seconds=0.05)

    asyncio.run(within())
    assert reports[-1] == ("t", 0, False)


def test_without_a_limit_every_record_that_fails_is_a_defect():
    before, _, reports = held_by(0)
    assert before == list(range(5, 40))
    assert reports == []


class Rebalances(RuleBasedStateMachine):
    """Fetches, losses on the way to the lanes, joins and leaves, in any order."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.lanes = Lanes(1 << 20, 4, SliceObserver(), sleep=no_pause)
        self.sink = Sink({4, 11, 12})
        self.tp = TP("t", 0)
        self.committed = self.position = 0
        self.ends: int | None = None
        self.is_assigned = True

    def turns(self, count):
        self.loop.run_until_complete(self._turns(count))

    async def _turns(self, count):
        for _ in range(count):
            await asyncio.sleep(0)

    @rule(count=st.integers(1, 6), is_lost=st.booleans(), turns=st.integers(0, 9))
    def fetch(self, count, is_lost, turns):
        slice_ = slice_of(*range(self.position, self.position + count), follows=self.ends)
        if self.ends is None:
            self.lanes.expect(self.tp, slice_.start)
        self.position = self.ends = slice_.next_offset
        if not is_lost:
            self.loop.run_until_complete(self._put(slice_))
        self.turns(turns)
        if self.tp in (gaps := self.lanes.take_gaps()):
            self.position = self.ends = gaps[self.tp]

    async def _put(self, slice_):
        accepted = self.lanes.put(self.tp, slice_, self.sink, 2)
        assert self.is_assigned or not accepted

    @rule(turns=st.integers(0, 9))
    def work(self, turns):
        self.turns(turns)

    @rule(drains=st.booleans())
    def revoke(self, drains):
        self.loop.run_until_complete(self.lanes.close(drain_seconds=0.05 if drains else 0))
        assert self.lanes.in_flight_bytes == 0
        self.committed = dict(self.lanes.committable()).get(self.tp, self.committed)
        self.lanes.forget()
        self.is_assigned = False

    @rule()
    def assign(self):
        if not self.is_assigned:
            self.lanes.open()
            self.position, self.ends, self.is_assigned = self.committed, None, True

    @invariant()
    def everything_before_the_committed_offset_is_written(self):
        end = dict(self.lanes.committable()).get(self.tp, self.committed)
        assert set(range(end)) <= set(self.sink.written)
        assert end >= self.committed

    def teardown(self):
        self.loop.run_until_complete(self.lanes.close(drain_seconds=0))
        assert self.lanes.in_flight_bytes == 0
        self.loop.close()


TestRebalances = Rebalances.TestCase
TestRebalances.settings = hypothesis.settings(max_examples=60, stateful_step_count=30, deadline=None)
