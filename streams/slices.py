"""Slices: the consecutive records of one partition that a handler gets at once, and how they are cut."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka import ConsumerRecord
from faust.types import TP


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
    end: int = 0
    """The end of the partition when the slice was fetched."""
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

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    @property
    def start(self) -> int:
        """The end of the previous slice; for the first slice, the offset of its first record."""
        return int(self.records[0].offset) if self.follows is None else self.follows

    def extend(self, later: "Slice") -> None:
        """Append the next slice of the partition."""
        self.records = [*self.records, *later.records]
        self.caught_up = later.caught_up

    def halves(self) -> tuple["Slice", "Slice"]:
        """Return two slices to handle instead of this one: the second after the first is acknowledged."""
        middle = len(self.records) // 2
        first = dataclasses.replace(self, records=self.records[:middle], caught_up=False)
        return first, dataclasses.replace(
            self, records=self.records[middle:], follows=first.next_offset, before=None
        )

    def as_defect(self, reason: str) -> "Slice":
        """Return a slice to handle instead of this one, which has one record: it has failed with a reason."""
        return dataclasses.replace(self, defects={int(self.records[0].offset): reason})

    async def turn(self) -> None:
        """Wait until the previous slices of the partition are acknowledged: the sink gets all in order.

        A handler of several slices at once awaits this before it writes.
        """
        if self.before is not None:
            await self.before.until_acked()
            self.before = None

    async def until_acked(self) -> None:
        """Wait until the sink has acknowledged the slice."""
        await self._acknowledged.wait()

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
    """The records of a partition that no sink has acknowledged, as far as is known from fetches."""
    on_held: Callable[[str, int, bool], None] = lambda _topic, _partition, _is_held: None
    """Whether a partition waits because too many of its records in a row are defects."""


class SliceCutter:
    """Cuts the records of one fetch into slices, and keeps the end of the last slice of each partition."""

    def __init__(self, on_start: Callable[[TP, int], None] = lambda _tp, _offset: None) -> None:
        """Start without previous slices; ``on_start`` gets the start of the first slice of each partition."""
        self._on_start = on_start
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
        caught_up = last.offset + 1 >= end
        slice_ = Slice(
            tp.topic, tp.partition, records, caught_up=caught_up, follows=self._next_offsets.get(tp), end=end
        )
        if slice_.follows is None:
            self._on_start(tp, slice_.start)
        self._next_offsets[tp] = slice_.next_offset
        return slice_

    def restart(self, tp: TP, offset: int) -> None:
        """Continue at an offset, from which the partition is read again."""
        self._next_offsets[tp] = offset

    def clear(self) -> None:
        """Forget all ends: the partitions are read again from their committed offsets."""
        self._next_offsets.clear()
