"""The newest observation of one entity at any event time, from a bounded history.

A value at time t is the newest observation that is not later than t, if it is not older than the view's ttl.
All observations within `SLACK_MS` of the newest are kept, at most `OBSERVATIONS_MAX`, and the one before
them. If two have the same event time, the one with the higher source partition and offset counts. So a
correction replaces what it corrects, and the order in which partitions interleave does not matter.
"""

import itertools
import struct
from bisect import bisect_left
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from streams.stored_arrays import Int64s, StoredStateError, integer_array, is_rising
from streams.tile_layout import NEVER, SLACK_MS

OBSERVATIONS_MAX = 1024
"""Distinct instants per entity: six weeks of hourly observations, 17 minutes of one per second."""
_HEADER = struct.Struct("<BI")
_FORMAT = 1


class Observation(NamedTuple):
    """One event: its time, its source, and its values in the view's own encoding."""

    event_time_ms: int
    source_partition: int
    source_offset: int
    row: bytes


class Observations:
    """The state of one entity. Equal sets of events give equal bytes."""

    __slots__ = ("_ends", "_offsets", "_partitions", "_rows", "_times_ms")

    def __init__(self) -> None:
        """Start without events."""
        # Columns, as in the written form: each slice that adds to a history writes all of it again.
        self._times_ms, self._partitions, self._offsets = integer_array(), integer_array(), integer_array()
        self._ends = integer_array()
        """Where each row ends in ``_rows``."""
        self._rows = bytearray()

    def __len__(self) -> int:
        return len(self._times_ms)

    @property
    def newest(self) -> Observation:
        """The newest observation; only if there is one."""
        return self._at(len(self) - 1)

    def add(self, event_time_ms: int, source_partition: int, source_offset: int, row: bytes) -> None:
        """Add an event; the order of events does not matter."""
        times_ms = self._times_ms
        if not times_ms or times_ms[-1] < event_time_ms:
            self._append([event_time_ms], [source_partition], [source_offset], [row])
            return
        index = bisect_left(times_ms, event_time_ms)
        observation = Observation(event_time_ms, source_partition, source_offset, row)
        if times_ms[index] != event_time_ms:
            self._replace(index, index, observation)
        elif self._at(index) < observation:
            self._replace(index, index + 1, observation)

    def add_all(
        self, times_ms: list[int], partitions: list[int], offsets: list[int], rows: list[bytes]
    ) -> None:
        """Add many events; in order and after all others they cost a fraction of single ones."""
        if is_rising(self._times_ms[-1] if self._times_ms else NEVER, times_ms):
            self._append(times_ms, partitions, offsets, rows)
        else:
            for observation in zip(times_ms, partitions, offsets, rows, strict=True):
                self.add(*observation)

    def to_bytes(self) -> bytes:
        """Write the state."""
        self._drop_old()
        columns = (self._times_ms, self._partitions, self._offsets, self._ends)
        return b"".join((_HEADER.pack(_FORMAT, len(self)), *columns, self._rows))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a state; raise `StoredStateError` if it is not one."""
        stored = StoredObservations(raw)
        state = cls()
        state._times_ms.frombytes(stored.times_ms.tobytes())
        state._partitions.frombytes(stored.partitions.tobytes())
        state._offsets.frombytes(stored.offsets.tobytes())
        state._ends.frombytes(stored.ends.tobytes())
        state._rows += stored.rows
        return state

    def _append(
        self, times_ms: list[int], partitions: list[int], offsets: list[int], rows: list[bytes]
    ) -> None:
        _, *ends = itertools.accumulate(map(len, rows), initial=len(self._rows))
        self._times_ms.fromlist(times_ms)
        self._partitions.fromlist(partitions)
        self._offsets.fromlist(offsets)
        self._ends.fromlist(ends)
        self._rows += b"".join(rows)

    def _at(self, index: int) -> Observation:
        source = (self._times_ms[index], self._partitions[index], self._offsets[index])
        return Observation(*source, bytes(self._rows[self._start(index) : self._ends[index]]))

    def _start(self, index: int) -> int:
        return self._ends[index - 1] if index else 0

    def _replace(self, index: int, stop: int, observation: Observation) -> None:
        """Replace the observations from ``index`` to ``stop`` (exclusive), one or none, by this one."""
        replaced = slice(index, stop)
        self._times_ms[replaced] = integer_array((observation.event_time_ms,))
        self._partitions[replaced] = integer_array((observation.source_partition,))
        self._offsets[replaced] = integer_array((observation.source_offset,))
        start = self._start(index)
        replaced_bytes = self._start(stop) - start
        self._rows[start : start + replaced_bytes] = observation.row
        grown_bytes = len(observation.row) - replaced_bytes
        later_ends = [row_end + grown_bytes for row_end in self._ends[stop:]]
        self._ends[index:] = integer_array([start + len(observation.row), *later_ends])

    def _drop_old(self) -> None:
        times_ms = self._times_ms
        if not times_ms:
            return
        oldest_ms = times_ms[-1] - SLACK_MS
        within = bisect_left(times_ms, oldest_ms) if times_ms[0] < oldest_ms else 0
        if surplus := max(within - 1, len(times_ms) - OBSERVATIONS_MAX, 0):
            dropped_bytes = self._ends[surplus - 1]
            del times_ms[:surplus], self._partitions[:surplus], self._offsets[:surplus]
            del self._rows[:dropped_bytes]
            self._ends = integer_array([end - dropped_bytes for end in self._ends[surplus:]])


class StoredObservations:
    """The state of one entity as it was written, for reading many times at once."""

    def __init__(self, raw: bytes) -> None:
        """Parse; raise `StoredStateError` if the bytes are no such state."""
        try:
            version, size = _HEADER.unpack_from(raw)
            if version != _FORMAT:
                raise StoredStateError(
                    f"the observations have format {version}; only format {_FORMAT} can be read"
                )
            columns = np.frombuffer(raw, dtype="<i8", count=4 * size, offset=_HEADER.size).reshape(4, size)
        except (struct.error, ValueError) as error:
            raise StoredStateError(f"{len(raw)} bytes are not observations: {error}") from error
        self.times_ms, self.partitions, self.offsets, self.ends = columns
        self._raw = raw
        self._rows_at = _HEADER.size + columns.nbytes

    def row(self, index: int) -> bytes:
        """Return the encoded values of one observation."""
        start = int(self.ends[index - 1]) if index else 0
        return self._raw[self._rows_at + start : self._rows_at + int(self.ends[index])]

    @property
    def rows(self) -> bytes:
        """The encoded values of all observations, one after the other."""
        return self._raw[self._rows_at :]

    def find(self, times_ms: Int64s, ttl_ms: int) -> tuple[Int64s, npt.NDArray[np.bool_]]:
        """Return for (n,) times the index of the observation that counts, and whether the time is too old.

        The index is -1 if there is none, or if the time is before the retention. A ``ttl_ms`` of 0 means that
        observations do not expire.
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
