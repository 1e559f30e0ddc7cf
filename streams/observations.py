"""The newest observation of one entity at any event time, from a bounded history.

A value at time t is the newest observation not later than t, if it is not older than the view's time
to live. Kept are all observations within `SLACK_MS` of the newest, at most `OBSERVATIONS_MAX`, and the
one before them. Of two at the same instant, the one with the higher source partition and offset counts,
so a correction wins and the order in which partitions interleave does not matter.
"""

import itertools
import struct
from bisect import bisect_left
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from streams.cells import integer_array
from streams.partials import StateError
from streams.windows import SLACK_MS

OBSERVATIONS_MAX = 1024
"""Distinct instants of one entity: three weeks of hourly observations, 17 minutes of one a second."""
_HEADER = struct.Struct("<BI")
_FORMAT = 1

Int64s = npt.NDArray[np.int64]


class Observation(NamedTuple):
    """One event: when, from where, and its values in the view's own encoding."""

    event_time_ms: int
    source_partition: int
    source_offset: int
    row: bytes


class Observations:
    """The state of one entity. Equal sets of events give equal bytes."""

    __slots__ = ("_offsets", "_partitions", "_rows", "_times_ms")

    def __init__(self) -> None:
        """Start without events."""
        # Columns, as they are written: all of a history is written again with every slice that adds to it.
        self._times_ms, self._partitions, self._offsets = integer_array(), integer_array(), integer_array()
        self._rows: list[bytes] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def newest(self) -> Observation:
        """The newest observation; only where there is one."""
        return self._at(-1)

    def add(self, event_time_ms: int, source_partition: int, source_offset: int, row: bytes) -> None:
        """Take in an event, in any order."""
        times_ms = self._times_ms
        if not times_ms or times_ms[-1] < event_time_ms:
            times_ms.append(event_time_ms)
            self._partitions.append(source_partition)
            self._offsets.append(source_offset)
            self._rows.append(row)
            return
        index = bisect_left(times_ms, event_time_ms)
        observation = Observation(event_time_ms, source_partition, source_offset, row)
        if times_ms[index] != event_time_ms:
            self._set(slice(index, index), observation)
        elif self._at(index) < observation:
            self._set(slice(index, index + 1), observation)

    def to_bytes(self) -> bytes:
        """Write the state."""
        self._drop_old()
        ends = integer_array(itertools.accumulate(map(len, self._rows)))
        columns = (self._times_ms, self._partitions, self._offsets, ends)
        return b"".join((_HEADER.pack(_FORMAT, len(self)), *columns, *self._rows))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a state back; raise `StateError` if it is none."""
        stored = StoredObservations(raw)
        state = cls()
        state._times_ms.frombytes(stored.times_ms.tobytes())
        state._partitions.frombytes(stored.partitions.tobytes())
        state._offsets.frombytes(stored.offsets.tobytes())
        state._rows = [stored.row(index) for index in range(len(state._times_ms))]
        return state

    def _at(self, index: int) -> Observation:
        place = (self._times_ms[index], self._partitions[index], self._offsets[index])
        return Observation(*place, self._rows[index])

    def _set(self, where: slice, observation: Observation) -> None:
        self._times_ms[where] = integer_array((observation.event_time_ms,))
        self._partitions[where] = integer_array((observation.source_partition,))
        self._offsets[where] = integer_array((observation.source_offset,))
        self._rows[where] = (observation.row,)

    def _drop_old(self) -> None:
        times_ms = self._times_ms
        if not times_ms:
            return
        oldest_ms = times_ms[-1] - SLACK_MS
        within = bisect_left(times_ms, oldest_ms) if times_ms[0] < oldest_ms else 0
        if surplus := max(within - 1, len(times_ms) - OBSERVATIONS_MAX, 0):
            del times_ms[:surplus], self._partitions[:surplus], self._offsets[:surplus], self._rows[:surplus]


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
