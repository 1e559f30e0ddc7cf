"""The batch engine: whole partition slices for the handlers, and commits that follow their work.

Faust has a cost per message: tasks, conductor, sensors, one stream step. Here one message holds all records
of a topic that one fetch returned: a *slice* of each of its partitions. So the cost is paid once per fetch,
and records that were fetched together are processed together. Groups, rebalancing and lifecycle stay Faust's.

Delivery: at least once. A slice is done when its handler has called `Slice.ack`, which it does only after its
sink has acknowledged everything. Slices of one partition are handled in order, one at a time; a handler that
supports it gets the next slice while the previous one is being written (`Slice.turn`). Slices of different
partitions are handled concurrently, each in a *lane*. So the offset to commit is always the end of the last
acknowledged slice of the lane, and never includes unfinished work. If a handler raises, nothing is committed:
`streams.record_isolation` waits for the end of an outage, and isolates a record that is at fault. A partition
all of whose records fail waits: then the code is at fault, and not one record after another.
"""

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator

import structlog
from faust.types import TP

from streams.record_isolation import FailedAttempt, RecordIsolation, Sleep
from streams.slices import Handler, Slice, SliceObserver

log = structlog.get_logger()

READY_SLICES_MAX = 2
"""Maximum slices of a partition that wait after those being handled: one or two, so that fetching overlaps
with handling. Small slices are merged, so that one busy partition does not block the fetch for its broker: a
broker sends nothing for any partition while fetched records of one have not been taken."""
DRAIN_SECONDS = 3.0
"""Maximum time for slices being handled to finish when their partition is revoked or the process stops."""
BLOCKED_SECONDS = 30.0
"""A partition counts as blocked after this time without success: shorter outages end by themselves."""


class NotAcknowledgedError(RuntimeError):
    """A handler returned without `Slice.ack`: commits would stop without an error."""


@dataclasses.dataclass(frozen=True, slots=True)
class BlockedPartition:
    """A partition that has made no progress for `BLOCKED_SECONDS`; its text says where it waits, and why."""

    tp: TP
    offset: int
    seconds: float
    error: Exception
    is_stuck: bool
    """Whether no record is at fault; see `streams.record_isolation`."""

    def __str__(self) -> str:
        cause = "no record is at fault: " if self.is_stuck else ""
        return (
            f"{self.tp.topic}/{self.tp.partition} waits at offset {self.offset} for {self.seconds:.0f} s: "
            f"{cause}{self.error!r}"
        )


@dataclasses.dataclass(eq=False, slots=True)
class _Waiting:
    slice_: Slice
    size_bytes: int


class _Lane:
    """The slices of one partition, handled in order."""

    def __init__(self, lanes: "Lanes", tp: TP, at_once: int) -> None:
        self.lanes = lanes
        self.tp = tp
        self.handler: Handler | None = None
        self._slices_max = at_once + READY_SLICES_MAX
        self._places = asyncio.Semaphore(at_once)
        self._in_work: dict[asyncio.Task[None], RecordIsolation[Slice]] = {}
        self.queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self.last: _Waiting | None = None
        """The slice at the end of the queue."""
        self.pending = 0
        self.next_offset: int | None = None
        self._start: int | None = None
        self._end = 0
        """The end of the partition, as of the last fetch."""
        self.defects_in_a_row = 0
        self._is_held = False
        self.task = asyncio.create_task(self._work(), name=f"lane {tp.topic}/{tp.partition}")

    async def _work(self) -> None:
        before: Slice | None = None
        while True:
            await self._places.acquire()
            taken = await self.queue.get()
            if taken is self.last:
                self.last = None
            taken.slice_.before, before = before, taken.slice_
            isolation = RecordIsolation(
                self._attempt,
                on_failure=self._report_failure,
                on_isolated=_report_isolated,
                may_isolate=self._may_isolate,
                sleep=self.lanes.sleep,
                clock=self.lanes.clock,
            )
            task = asyncio.create_task(self._finish(taken.slice_, isolation))
            self._in_work[task] = isolation
            task.add_done_callback(functools.partial(self._release, taken))  # also if it never begins

    async def _finish(self, slice_: Slice, isolation: RecordIsolation[Slice]) -> None:
        await isolation.complete(slice_)
        slice_.ack()  # it may have been handled in parts

    def _release(self, taken: _Waiting, task: asyncio.Task[None]) -> None:
        del self._in_work[task]
        self._places.release()
        self.lanes.release(self, taken.size_bytes)

    def put(self, slice_: Slice, size_bytes: int) -> None:
        """Queue a slice, or append it to the last one if that still waits and has room."""
        self._start = slice_.start if self._start is None else self._start
        self._end = max(self._end, slice_.end, slice_.next_offset)
        self._report_lag()
        last = self.last
        if last and len(last.slice_) + len(slice_) <= self.lanes.slice_records_max:
            last.slice_.extend(slice_)
            last.size_bytes += size_bytes
            return
        self.last = _Waiting(slice_, size_bytes)
        self.pending += 1
        self.queue.put_nowait(self.last)

    def _report_lag(self) -> None:
        done = self._start if self.next_offset is None else self.next_offset
        if done is not None:
            self.lanes.observer.on_lag(self.tp.topic, self.tp.partition, max(0, self._end - done))

    @property
    def is_full(self) -> bool:
        """Tell whether enough records wait after the slices being handled."""
        ready = len(self.last.slice_) if self.last else 0
        half_full = 2 * ready >= self.lanes.slice_records_max
        return self.pending >= self._slices_max or (self.pending == self._slices_max - 1 and half_full)

    async def _attempt(self, slice_: Slice) -> None:
        assert self.handler is not None
        try:
            await self.handler(slice_)
        except Exception:
            if not slice_.acked:
                raise
            # The next slice may have been written: to repeat this one would change the order.
            log.exception("slice.failed_after_ack", topic=slice_.topic, partition=slice_.partition)
        if not slice_.acked:
            raise NotAcknowledgedError(f"the handler of {slice_.topic} returned without ack()")
        await slice_.turn()  # no commit includes an unfinished slice, whatever the handler did
        self.next_offset = slice_.next_offset
        self._report_lag()
        self.lanes.observer.on_slice(len(slice_))
        self._count_defects(slice_)

    def _count_defects(self, slice_: Slice) -> None:
        """Count defects since the last success of a record that is no heartbeat."""
        if slice_.defects:
            self.defects_in_a_row += 1
        elif any(record.serialized_value_size >= 0 for record in slice_.records):
            self.defects_in_a_row = 0
            self._hold(is_held=False)

    def _may_isolate(self) -> bool:
        limit = self.lanes.defects_in_a_row_max
        is_held = 0 < limit <= self.defects_in_a_row
        self._hold(is_held=is_held)
        return not is_held

    def _hold(self, *, is_held: bool) -> None:
        if is_held == self._is_held:
            return
        self._is_held = is_held
        self.lanes.observer.on_held(self.tp.topic, self.tp.partition, is_held)
        report = log.error if is_held else log.info
        report(
            "partition.held" if is_held else "partition.released",
            topic=self.tp.topic,
            partition=self.tp.partition,
            defects_in_a_row=self.defects_in_a_row,
        )

    def _report_failure(self, failed: FailedAttempt[Slice]) -> None:
        self.lanes.observer.on_retry()
        log.warning(
            "slice.stuck" if failed.is_stuck else "slice.retried",
            topic=self.tp.topic,
            partition=self.tp.partition,
            first_offset=failed.work.records[0].offset,
            records=len(failed.work),
            attempt=failed.count,
            pause_seconds=round(failed.pause_seconds, 2),
            error=repr(failed.error),
            exc_info=failed.error if failed.count == 1 else None,
        )

    def blocked(self, now_seconds: float) -> BlockedPartition | None:
        """Return why the lane has made no progress for `BLOCKED_SECONDS`, None if it has."""
        for isolation in self._in_work.values():
            if failed := isolation.failed:
                offset = int(failed.work.records[0].offset)
                seconds = now_seconds - failed.since_seconds
                if seconds >= BLOCKED_SECONDS:
                    return BlockedPartition(self.tp, offset, seconds, failed.error, failed.is_stuck)
        return None

    async def close(self, drain_seconds: float) -> None:
        """Wait a bounded time for slices being handled, and drop the others: they are not committed."""
        deadline = time.monotonic() + drain_seconds
        while not self.queue.empty():
            self.lanes.release(self, self.queue.get_nowait().size_bytes)
        self.last = None
        while self.pending and time.monotonic() < deadline and not self.task.done():
            await self.lanes.wait_for_release(deadline - time.monotonic())
        stopped = [self.task, *self._in_work]
        for task in stopped:
            task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)
        self._hold(is_held=False)


def _report_isolated(slice_: Slice, reason: str) -> None:
    log.error(
        "slice.record_isolated",
        topic=slice_.topic,
        partition=slice_.partition,
        offset=slice_.records[0].offset,
        reason=reason,
    )


class Lanes:
    """All lanes of a process, and the bound on the bytes in flight."""

    def __init__(
        self,
        in_flight_bytes_max: int,
        slice_records_max: int,
        observer: SliceObserver,
        *,
        defects_in_a_row_max: int = 0,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the bounds.

        Args:
            in_flight_bytes_max: Maximum bytes fetched and not finished; a slice of any size is accepted.
            slice_records_max: Waiting slices are merged up to this number of records.
            observer: Callbacks for metrics.
            defects_in_a_row_max: Maximum defects of a partition in a row; then it waits. 0: no limit.
            sleep: Waits a number of seconds between two attempts.
            clock: Returns seconds; only differences count.
        """
        self.in_flight_bytes_max = in_flight_bytes_max
        self.slice_records_max = slice_records_max
        self.observer = observer
        self.defects_in_a_row_max = defects_in_a_row_max
        self.sleep = sleep
        self.clock = clock
        self.in_flight_bytes = 0
        self._lanes: dict[TP, _Lane] = {}
        self._expected: dict[TP, int] = {}
        """Where the next slice of each partition must start."""
        self._gaps: dict[TP, int] = {}
        self._is_closed = False
        self._released = asyncio.Event()

    def expect(self, tp: TP, offset: int) -> None:
        """Announce where the first slice of a partition starts."""
        self._expected[tp] = offset

    def put(self, tp: TP, slice_: Slice, handler: Handler, at_once: int = 1) -> bool:
        """Queue a slice; the caller checks `is_full` and `has_room` before it fetches.

        Returns False for a slice that is not accepted, and must be fetched again: the lanes are closed, or
        the slice does not start where the previous one ended; see `take_gaps`.
        """
        if self._is_closed:
            return False
        expected = self._expected.get(tp, slice_.start)
        if slice_.start != expected:
            self._gaps[tp] = expected
            return False
        self._expected[tp] = slice_.next_offset
        lane = self._lanes.get(tp)
        if lane is None:
            lane = self._lanes[tp] = _Lane(self, tp, at_once)
        lane.handler = handler
        size_bytes = slice_.size_bytes
        self._count(size_bytes)
        lane.put(slice_, size_bytes)
        return True

    def take_gaps(self) -> dict[TP, int]:
        """Return the offsets from which partitions must be read again, once."""
        gaps, self._gaps = self._gaps, {}
        return gaps

    def release(self, lane: _Lane, size_bytes: int) -> None:
        """Note that a slice is finished or dropped."""
        lane.pending -= 1
        self._count(-size_bytes)
        self._released.set()

    def _count(self, size_bytes: int) -> None:
        self.in_flight_bytes += size_bytes
        self.observer.on_in_flight(self.in_flight_bytes)

    def is_full(self, tp: TP) -> bool:
        """Tell whether nothing more may be fetched from this partition."""
        lane = self._lanes.get(tp)
        return lane is not None and lane.is_full

    @property
    def has_room(self) -> bool:
        """Whether more may be fetched from any partition."""
        return self.in_flight_bytes < self.in_flight_bytes_max

    async def wait_for_release(self, timeout_seconds: float) -> None:
        """Wait until any slice is finished, or for the timeout."""
        self._released.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._released.wait(), max(timeout_seconds, 0.001))

    def committable(self) -> Iterator[tuple[TP, int]]:
        """Yield for each partition the offset before which the sink has acknowledged all records."""
        return ((tp, lane.next_offset) for tp, lane in self._lanes.items() if lane.next_offset is not None)

    def blocked(self) -> list[BlockedPartition]:
        """Return the partitions that have made no progress for `BLOCKED_SECONDS`."""
        now_seconds = self.clock()
        return [found for lane in self._lanes.values() if (found := lane.blocked(now_seconds))]

    async def close(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Stop all lanes and accept no slice. `committable` stays valid until `forget`."""
        self._is_closed = True
        await asyncio.gather(*(lane.close(drain_seconds) for lane in self._lanes.values()))

    def forget(self) -> None:
        """Drop the lanes, after their offsets are committed or lost; they stay closed until `open`."""
        self._lanes.clear()
        self._expected.clear()
        self._gaps.clear()

    def open(self) -> None:
        """Accept slices of a new assignment."""
        self._is_closed = False
