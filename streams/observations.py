"""The newest observation of one entity at any event time, from a bounded history.

A value at time t is the newest observation not later than t, if it is not older than the view's time
to live. Kept are all observations within `SLACK_MS` of the newest, at most `OBSERVATIONS_MAX`, and the
one before them. Of two at the same instant, the one with the higher source partition and offset counts,
so a correction wins and the order in which partitions interleave does not matter.
"""

import dataclasses
import struct
from bisect import bisect_left
from typing import Self

import numpy as np
import numpy.typing as npt

from streams.partials import StateError
from streams.windows import SLACK_MS

OBSERVATIONS_MAX = 1024
"""Distinct instants of one entity: three weeks of hourly observations, 17 minutes of one a second."""
_HEADER = struct.Struct("<BI")
_FORMAT = 1

Int64s = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Observation:
    """One event: when, from where, and its values in the view's own encoding."""

    event_time_ms: int
    source_partition: int
    source_offset: int
    row: bytes


class Observations:
    """The state of one entity. Equal sets of events give equal bytes."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        """Start without events."""
        self._kept: list[Observation] = []

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def newest(self) -> Observation:
        """The newest observation; only where there is one."""
        return self._kept[-1]

    def add(self, observation: Observation) -> None:
        """Take in an event, in any order."""
        kept = self._kept
        index = bisect_left(kept, observation.event_time_ms, key=lambda entry: entry.event_time_ms)
        if index == len(kept) or kept[index].event_time_ms != observation.event_time_ms:
            kept.insert(index, observation)
        elif kept[index] < observation:
            kept[index] = observation

    def to_bytes(self) -> bytes:
        """Write the state."""
        self._drop_old()
        kept = self._kept
        integers = [
            np.array([getattr(entry, name) for entry in kept], dtype="<i8").tobytes()
            for name in ("event_time_ms", "source_partition", "source_offset")
        ]
        ends = np.cumsum([len(entry.row) for entry in kept], dtype="<i8").tobytes()
        return b"".join([_HEADER.pack(_FORMAT, len(kept)), *integers, ends, *(entry.row for entry in kept)])

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a state back; raise `StateError` if it is none."""
        stored = StoredObservations(raw)
        columns = (stored.times_ms.tolist(), stored.partitions.tolist(), stored.offsets.tolist())
        state = cls()
        state._kept = [
            Observation(*place, stored.row(index)) for index, place in enumerate(zip(*columns, strict=True))
        ]
        return state

    def _drop_old(self) -> None:
        kept = self._kept
        if not kept:
            return
        within = bisect_left(kept, kept[-1].event_time_ms - SLACK_MS, key=lambda entry: entry.event_time_ms)
        del kept[: max(within - 1, len(kept) - OBSERVATIONS_MAX, 0)]


class StoredObservations:
    """A state as it was written, for reading many times at once."""

    def __init__(self, raw: bytes) -> None:
        """Parse; raise `StateError` if the bytes are no such state."""
        try:
            version, size = _HEADER.unpack_from(raw)
            if version != _FORMAT:
                raise StateError(f"observations of format {version}, known is {_FORMAT}")
            places = np.frombuffer(raw, dtype="<i8", count=4 * size, offset=_HEADER.size).reshape(4, size)
        except (struct.error, ValueError) as error:
            raise StateError(f"these {len(raw)} bytes are no observations: {error}") from error
        self.times_ms, self.partitions, self.offsets, self._ends = places
        self._raw = raw
        self._rows_at = _HEADER.size + places.nbytes

    def row(self, index: int) -> bytes:
        """Return the encoded values of one observation."""
        start = int(self._ends[index - 1]) if index else 0
        return self._raw[self._rows_at + start : self._rows_at + int(self._ends[index])]

    def find(self, times_ms: Int64s, ttl_ms: int) -> tuple[Int64s, npt.NDArray[np.bool_]]:
        """Return for (n,) times the index of the observation that counts, -1 for none.

        Also whether the time is beyond the retention: then there is none. A ``ttl_ms`` of 0 is for ever.
        """
        if not len(self.times_ms):
            return np.full(len(times_ms), -1), np.zeros(len(times_ms), dtype=np.bool_)
        beyond = times_ms < self._complete_from_ms
        index = np.searchsorted(self.times_ms, times_ms, side="right") - 1
        stale = (
            times_ms - self.times_ms[index] > ttl_ms if ttl_ms else np.zeros(len(times_ms), dtype=np.bool_)
        )
        return np.where(beyond | stale | (index < 0), -1, index), beyond

    @property
    def _complete_from_ms(self) -> int:
        slack = int(self.times_ms[-1]) - SLACK_MS
        return max(slack, int(self.times_ms[0])) if len(self.times_ms) == OBSERVATIONS_MAX else slack
