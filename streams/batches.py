"""The batch engine: whole partition slices for the handlers, and commits that follow their work.

Faust has a cost per message: tasks, conductor, sensors, one stream step. Here one message holds all records
of a topic that one fetch returned: a *slice* of each of its partitions. So the cost is paid once per fetch,
and records that were fetched together are processed together. Groups, rebalancing and lifecycle stay Faust's.

Delivery: at least once. A slice is done when its handler has called `Slice.ack`, which it does only after its
sink has acknowledged everything. Slices of one partition are handled in order, one at a time; a handler that
supports it gets the next slice while the previous one is being written (`Slice.turn`). Slices of different
partitions are handled concurrently, each in a *lane*. So the offset to commit is always the end of the last
acknowledged slice of the lane, and never includes unfinished work. If a handler raises, nothing is committed,
and the same slice is handled again after a back-off.
"""

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import structlog
from aiokafka import ConsumerRecord
from faust.types import TP

log = structlog.get_logger()

READY_SLICES_MAX = 2
"""Maximum slices of a partition that wait after those being handled: one or two, so that fetching overlaps
with handling. Small slices are merged, so that one busy partition does not block the fetch for its broker: a
broker sends nothing for any partition while fetched records of one have not been taken."""
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.1, 5.0
"""Bounds of the back-off of a retry."""
DRAIN_SECONDS = 3.0
"""Maximum time for slices being handled to finish when their partition is revoked or the process stops."""


@dataclasses.dataclass(eq=False, slots=True)
class Slice:
    """Consecutive records of one partition, including heartbeats (records without a value)."""

    topic: str
    partition: int
    records: Sequence[ConsumerRecord]
    caught_up: bool
    """Whether the slice reached the end of the partition when it was fetched."""
    follows: int | None = None
    """The end of the previous slice; None for the first slice after an assignment."""
    before: "Slice | None" = None
    """The previous slice, while that is not acknowledged."""
    defects: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """Reasons by offset of records that failed with an unexpected error. The handler writes them to the dead
    letters as ``defect`` instead of decoding them, and treats the rest of the slice as usual."""
    _acknowledged: asyncio.Event = dataclasses.field(default_factory=asyncio.Event, init=False)

    @property
    def first_offset(self) -> int:
        """The offset from which on the slice holds all records of the partition."""
        first = int(self.records[0].offset)
        return first if self.follows is None else min(self.follows, first)

    @property
    def next_offset(self) -> int:
        """The offset after the last record. Offsets of compacted topics have gaps, so this is not a count."""
        return int(self.records[-1].offset) + 1

    @property
    def size_bytes(self) -> int:
        """Bytes of all keys and values."""
        # A size is -1 if there is no key or value.
        keys: int = sum([r.serialized_key_size for r in self.records if r.serialized_key_size > 0])
        values: int = sum([r.serialized_value_size for r in self.records if r.serialized_value_size > 0])
        return keys + values

    def extend(self, later: "Slice") -> None:
        """Append the next slice of the partition."""
        self.records = [*self.records, *later.records]
        self.caught_up = later.caught_up

    async def turn(self) -> None:
        """Wait until the previous slices of the partition are acknowledged: the sink gets all in order.

        A handler of several slices at once awaits this before it writes.
        """
        if self.before is not None:
            await self.before._acknowledged.wait()  # noqa: SLF001  # of its own kind
            self.before = None

    @property
    def acked(self) -> bool:
        """Tell whether its handler has called `ack`."""
        return self._acknowledged.is_set()

    def ack(self) -> None:
        """Report that the sink has acknowledged the whole slice."""
        self._acknowledged.set()


Handler = Callable[[Slice], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class SliceObserver:
    """Callbacks for the metrics of the services."""

    on_slice: Callable[[int], None] = lambda _records: None
    on_retry: Callable[[], None] = lambda: None
    on_in_flight: Callable[[int], None] = lambda _size_bytes: None
    on_lag: Callable[[str, int, int], None] = lambda _topic, _partition, _records: None


class NotAcknowledgedError(RuntimeError):
    """A handler returned without `Slice.ack`: commits would stop without an error."""


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
        self._in_work: set[asyncio.Task[None]] = set()
        self.queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self.last: _Waiting | None = None
        """The slice at the end of the queue."""
        self.pending = 0
        self.next_offset: int | None = None
        self.task = asyncio.create_task(self._work(), name=f"lane {tp.topic}/{tp.partition}")

    async def _work(self) -> None:
        before: Slice | None = None
        while True:
            await self._places.acquire()
            taken = await self.queue.get()
            if taken is self.last:
                self.last = None
            taken.slice_.before, before = before, taken.slice_
            task = asyncio.create_task(self._finish(taken))
            self._in_work.add(task)
            task.add_done_callback(self._in_work.discard)

    async def _finish(self, taken: _Waiting) -> None:
        try:
            await self._handle(taken.slice_)
            await taken.slice_.turn()  # no commit includes an unfinished slice, whatever the handler did
            self.next_offset = taken.slice_.next_offset
        finally:  # also when cancelled
            self._places.release()
            self.lanes.release(self, taken.size_bytes)

    def put(self, slice_: Slice, size_bytes: int) -> None:
        """Queue a slice, or append it to the last one if that still waits and has room."""
        last = self.last
        if last and len(last.slice_.records) + len(slice_.records) <= self.lanes.slice_records_max:
            last.slice_.extend(slice_)
            last.size_bytes += size_bytes
            return
        self.last = _Waiting(slice_, size_bytes)
        self.pending += 1
        self.queue.put_nowait(self.last)

    @property
    def is_full(self) -> bool:
        """Tell whether enough records wait after the slices being handled."""
        ready = len(self.last.slice_.records) if self.last else 0
        half_full = 2 * ready >= self.lanes.slice_records_max
        return self.pending >= self._slices_max or (self.pending == self._slices_max - 1 and half_full)

    async def _handle(self, slice_: Slice) -> None:
        assert self.handler is not None
        attempt = 0
        while True:
            try:
                await self.handler(slice_)
                if not slice_.acked:
                    raise NotAcknowledgedError(f"the handler of {slice_.topic} returned without ack()")
            except Exception as error:  # the slice must not be lost, whatever the error
                attempt += 1
                pause = _pause_seconds(attempt)
                self.lanes.observer.on_retry()
                log.warning(
                    "slice.retried",
                    topic=slice_.topic,
                    partition=slice_.partition,
                    first_offset=slice_.records[0].offset,
                    attempt=attempt,
                    pause_seconds=round(pause, 2),
                    error=repr(error),
                    exc_info=attempt == 1,
                )
                await asyncio.sleep(pause)
            else:
                self.lanes.observer.on_slice(len(slice_.records))
                return

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


def _pause_seconds(attempt: int) -> float:
    """Back off exponentially, with jitter, so that workers do not retry at the same time."""
    longest: float = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2 ** min(attempt, 10))
    return longest * random.uniform(0.5, 1)  # noqa: S311  # no secret


class Lanes:
    """All lanes of a process, and the bound on the bytes in flight."""

    def __init__(self, in_flight_bytes_max: int, slice_records_max: int, observer: SliceObserver) -> None:
        """Take the bounds.

        Args:
            in_flight_bytes_max: Maximum bytes fetched and not finished; a slice of any size is accepted.
            slice_records_max: Waiting slices are merged up to this number of records.
            observer: Callbacks for metrics.
        """
        self.in_flight_bytes_max = in_flight_bytes_max
        self.slice_records_max = slice_records_max
        self.observer = observer
        self.in_flight_bytes = 0
        self._lanes: dict[TP, _Lane] = {}
        self._released = asyncio.Event()

    def put(self, tp: TP, slice_: Slice, handler: Handler, at_once: int = 1) -> None:
        """Queue a slice; the caller checks `is_full` and `has_room` before it fetches."""
        lane = self._lanes.get(tp)
        if lane is None:
            lane = self._lanes[tp] = _Lane(self, tp, at_once)
        lane.handler = handler
        size_bytes = slice_.size_bytes
        self._count(size_bytes)
        lane.put(slice_, size_bytes)

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

    async def close(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Stop all lanes. `committable` stays valid until `forget`."""
        await asyncio.gather(*(lane.close(drain_seconds) for lane in self._lanes.values()))

    def forget(self) -> None:
        """Drop the lanes, after their offsets are committed or lost."""
        self._lanes.clear()


class SliceCutter:
    """Cuts the records of one fetch into slices, and keeps the end of the last slice of each partition."""

    def __init__(self, observer: SliceObserver) -> None:
        """Start without previous slices."""
        self._observer = observer
        self._next_offsets: dict[TP, int] = {}

    def cut(
        self, fetched: Mapping[TP, Sequence[ConsumerRecord]], end_of: Callable[[TP], int | None]
    ) -> list[list[Slice]]:
        """Return the slices of each topic, given the end of each partition as the broker last reported it."""
        topics: dict[str, list[Slice]] = {}
        for tp, records in fetched.items():
            if records:
                topics.setdefault(tp.topic, []).append(self._slice(tp, records, end_of(tp) or 0))
        return list(topics.values())

    def _slice(self, tp: TP, records: Sequence[ConsumerRecord], end: int) -> Slice:
        last = records[-1]
        self._observer.on_lag(tp.topic, tp.partition, max(0, end - last.offset - 1))
        caught_up = last.offset + 1 >= end
        slice_ = Slice(
            tp.topic, tp.partition, records, caught_up=caught_up, follows=self._next_offsets.get(tp)
        )
        self._next_offsets[tp] = slice_.next_offset
        return slice_

    def clear(self) -> None:
        """Forget all ends: the partitions are read again from their committed offsets."""
        self._next_offsets.clear()
