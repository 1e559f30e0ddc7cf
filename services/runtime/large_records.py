"""Values of any size in a compacted topic: a value above the limit of a record is written as parts. Pure.

A value up to `PART_BYTES_MAX` is one record. A larger one is divided, and written in this order:

1. its parts, under the keys ``<key>/part/<slot>/<number>``, in the slot that the present value does not use;
2. a record without a value (a tombstone) for each further part that this slot has from earlier values;
3. the head, under the key itself: slot, number of parts, and digest of the value.

Each step is acknowledged before the next. So a crash before step 3 leaves the present value readable, because
its head and its slot are untouched, and after step 3 the new value is complete. Keys are used again, so that
compaction keeps two values at most. Old values of one record are read as before.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec

from streams import topics
from streams.producer import Record

PART_BYTES_MAX = (1 << 20) - topics.OVERHEAD_BYTES
"""Maximum size of a part: fits into a topic with Kafka's default limit."""
PARTS_MAX = 9999
"""Maximum number of parts, some 10 GiB: a head that names more was not written by this module."""
BATCH_PARTS_MAX = 16
"""Parts that are written at once: bounds the copies of a value in memory."""
MAGIC = b"driftline-parts\n"
"""Start of the value of a head. Other values are compressed, or JSON."""
_PART_KEY = re.compile(rb"(?P<key>.+)/part/(?P<slot>[01])/(?P<number>[0-9]{4})", re.DOTALL)

Write = Callable[[Sequence[Record]], None]
"""Writes records to the partition of the values, in order; returns when all are acknowledged."""


class LargeRecordError(ValueError):
    """A value cannot be put together. The message says what is missing and what to do."""


_Count = Annotated[int, msgspec.Meta(ge=0, le=PARTS_MAX)]


class _Head(msgspec.Struct, array_like=True):
    """What a value was divided into."""

    slot: Annotated[int, msgspec.Meta(ge=0, le=1)]
    parts: _Count
    parts_other: _Count
    """Number of parts in the other slot, of an earlier value."""
    sha256: bytes


@dataclasses.dataclass(frozen=True)
class PartLayout:
    """The parts of a key in its topic: what the writer of the next value has to know."""

    slot: int = 1
    """The slot of the present value."""
    parts: tuple[int, int] = (0, 0)
    """Number of parts in each slot."""


class FoundValue(NamedTuple):
    """The latest value of a key."""

    offset: int
    """Key of its record, or of its head."""
    value: bytes
    layout: PartLayout
    written_ms: int = 0
    """Timestamp of that record."""


class LargeRecordWriter:
    """Writes values to one partition of a compacted topic. One process writes a key."""

    def __init__(self, write: Write) -> None:
        """Take the producer."""
        self._write = write
        self._layouts: dict[bytes, PartLayout] = {}

    def learn(self, found: Mapping[bytes, FoundValue]) -> None:
        """Take what is in the topic, before the first `put`; without it, parts of old values may stay."""
        self._layouts.update((key, each.layout) for key, each in found.items())

    def put(self, key: bytes, value: bytes, slot: int | None = None) -> None:
        """Write a value; return when it is acknowledged.

        Args:
            key: Its key.
            value: Its bytes.
            slot: The slot of a divided value. Default: the one that the last value did not use.
        """
        layout = self._layouts.get(key, PartLayout())
        if len(value) <= PART_BYTES_MAX and layout.parts == (0, 0):
            self._write([(key, value, [])])
            return
        slot = 1 - layout.slot if slot is None else slot
        count = -(-len(value) // PART_BYTES_MAX)
        in_slot, parts_other = layout.parts[slot], layout.parts[1 - slot]
        self._layouts[key] = PartLayout(layout.slot, _parts(slot, max(in_slot, count), parts_other))
        for start in range(0, count, BATCH_PARTS_MAX):
            numbers = range(start, min(start + BATCH_PARTS_MAX, count))
            self._write([(part_key(key, slot, n), _part(value, n), []) for n in numbers])
        if surplus := range(count, in_slot):
            self._write([(part_key(key, slot, number), None, []) for number in surplus])
        head = _Head(slot, count, parts_other, hashlib.sha256(value).digest())
        self._write([(key, MAGIC + msgspec.msgpack.encode(head), [])])
        self._layouts[key] = PartLayout(slot, _parts(slot, count, parts_other))


class LargeRecordReader:
    """Puts the latest values of some keys together, from records of a partition in any order."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        """Take the keys; other records are passed over."""
        self._keys = frozenset(keys)
        self._values: dict[bytes, tuple[int, bytes | None]] = {}
        self._written_ms: dict[bytes, int] = {}
        self._heads: dict[bytes, _Head] = {}
        self._parts: dict[bytes, dict[tuple[int, int], tuple[int, bytes | None]]] = {}
        """Offset and value of the latest record of each part, by key, slot and number."""

    def take(self, offset: int, key: bytes | None, value: bytes | None, written_ms: int = 0) -> None:
        """Take a record; of several with one key, the one with the highest offset counts."""
        if key in self._keys:
            if key is not None and offset > self._values.get(key, (-1,))[0]:
                self._values[key] = offset, value
                self._written_ms[key] = written_ms
                self._heads.pop(key, None)
                if value is not None and value.startswith(MAGIC):
                    self._heads[key] = _head_of(key, value)
        elif key is not None and (found := _PART_KEY.fullmatch(key)) and found["key"] in self._keys:
            parts = self._parts.setdefault(found["key"], {})
            place = int(found["slot"]), int(found["number"])
            if offset > parts.get(place, (-1,))[0]:
                parts[place] = offset, value

    @property
    def is_complete(self) -> bool:
        """Whether every key has its value with all parts, or is deleted."""
        return all(key in self._values and not self._lacking(key) for key in self._keys)

    def drop_unneeded(self) -> None:
        """Free the values of parts that no head names."""
        for key, head in self._heads.items():
            parts = self._parts.get(key, {})
            for (slot, number), (offset, value) in parts.items():
                if value and (slot, number) not in _places(head):
                    parts[slot, number] = offset, b""

    def found(self) -> dict[bytes, FoundValue]:
        """Return the latest value of each key that has one.

        Raises:
            LargeRecordError: Parts are missing, or are not those that were written.
        """
        return {
            key: FoundValue(offset, self._value(key, offset, value), self._layout(key), self._written_ms[key])
            for key, (offset, value) in self._values.items()
            if value is not None
        }

    def _value(self, key: bytes, offset: int, value: bytes) -> bytes:
        head = self._heads.get(key)
        if head is None:
            return value
        if lacking := self._lacking(key):
            raise LargeRecordError(
                f"the record {key.decode()!r} at offset {offset} is incomplete: {len(lacking)} of its "
                f"{head.parts} parts are missing, the first is part {lacking[0]}; to start without this "
                "record, delete it from the topic"
            )
        parts = self._parts[key]
        whole = b"".join(parts[place][1] or b"" for place in _places(head))
        if hashlib.sha256(whole).digest() != head.sha256:
            raise LargeRecordError(
                f"the parts of the record {key.decode()!r} at offset {offset} do not belong together: "
                "another process may write the same record; run only one of the two. To start without this "
                "record, delete it from the topic"
            )
        return whole

    def _lacking(self, key: bytes) -> list[int]:
        head = self._heads.get(key)
        if head is None:
            return []
        parts = self._parts.get(key, {})
        return [number for slot, number in _places(head) if parts.get((slot, number), (0, None))[1] is None]

    def _layout(self, key: bytes) -> PartLayout:
        """Return the parts that the topic may hold: as the head says, and those of a later attempt."""
        head = self._heads.get(key)
        slot = PartLayout.slot if head is None else head.slot
        counts = (0, 0) if head is None else _parts(slot, head.parts, head.parts_other)
        live = [place for place, (_, value) in self._parts.get(key, {}).items() if value is not None]
        first, second = (max([counts[n], *(number + 1 for s, number in live if s == n)]) for n in (0, 1))
        return PartLayout(slot, (first, second))


def keys_of(key: bytes, found: FoundValue) -> list[bytes]:
    """Return the keys of all records of a value: to delete, the head first."""
    parts = [
        part_key(key, slot, number)
        for slot, count in enumerate(found.layout.parts)
        for number in range(count)
    ]
    return [key, *parts]


def part_key(key: bytes, slot: int, number: int) -> bytes:
    """Return the key of a part.

    >>> part_key(b"fares", 0, 7)
    b'fares/part/0/0007'
    """
    return b"%s/part/%d/%04d" % (key, slot, number)


def _part(value: bytes, number: int) -> bytes:
    return value[number * PART_BYTES_MAX : (number + 1) * PART_BYTES_MAX]


def _parts(slot: int, count: int, count_other: int) -> tuple[int, int]:
    return (count, count_other) if slot == 0 else (count_other, count)


def _places(head: _Head) -> dict[tuple[int, int], None]:
    return dict.fromkeys((head.slot, number) for number in range(head.parts))


def _head_of(key: bytes, value: bytes) -> _Head:
    try:
        return msgspec.msgpack.decode(value[len(MAGIC) :], type=_Head)
    except msgspec.DecodeError as error:
        raise LargeRecordError(
            f"the head of the record {key.decode()!r} cannot be read: {error}; to start without this "
            "record, delete it from the topic"
        ) from error
