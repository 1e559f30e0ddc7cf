"""Where sessions begin: the first and the last event time in each tile.

A tile is never longer than the gap, so two sessions are always divided between two tiles.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from streams.cells import Cells
from streams.stored_arrays import ArrayReader, Int64s

Extent = tuple[int, int]
"""Event times of the first and the last event, in milliseconds, whatever the values of the events."""
_EMPTY = (2**63 - 1, -(2**63))


class Extents(Cells[Extent]):
    """The extent of each tile."""

    def empty(self) -> Extent:
        """Return the extent of a tile before its first event is added."""
        return _EMPTY

    def merged(self, cells: Sequence[Extent]) -> Extent:
        """Return the extent of all."""
        return min(first for first, _ in cells), max(last for _, last in cells)

    def add(self, index: int, time_ms: int) -> None:
        """Add an event to a tile."""
        self.cells[index] = self.merged([self.cells[index], (time_ms, time_ms)])

    def newest_session_start(self, gap_ms: int) -> int:
        """Return the index of the tile with which the newest session begins."""
        index = max(len(self.cells) - 1, 0)
        while index and self.cells[index][0] - self.cells[index - 1][1] <= gap_ms:
            index -= 1
        return index

    def to_bytes(self) -> bytes:
        """Write the first times of all tiles, then the last times."""
        return np.array(self.cells, dtype="<i8").reshape(-1, 2).T.tobytes()


@dataclasses.dataclass(frozen=True)
class StoredExtents:
    """Extents as they were written, for evaluating many times at once."""

    firsts_ms: Int64s
    lasts_ms: Int64s

    @classmethod
    def read(cls, reader: ArrayReader) -> "StoredExtents":
        """Read what was written; raise ValueError if bytes are missing."""
        return cls(reader.integers(), reader.integers())

    def to_cells(self) -> Extents:
        """Return the extents for adding events."""
        return Extents(list(zip(self.firsts_ms.tolist(), self.lasts_ms.tolist(), strict=True)))

    def session_starts(self, stops: Int64s, times_ms: Int64s, gap_ms: int) -> Int64s:
        """Return the index of the first tile of the session that is open at each of (n,) times.

        ``stops`` (n,) are the numbers of tiles up to each time. Where no session is open, the result is the
        number itself, hence an empty window.
        """
        begins = np.append(0, 1 + np.flatnonzero(self.firsts_ms[1:] - self.lasts_ms[:-1] > gap_ms))
        start = begins[np.searchsorted(begins, stops - 1, side="right") - 1]
        last_ms = np.append(self.lasts_ms, np.iinfo(np.int64).min // 2)[stops - 1]
        return np.where((stops > 0) & (times_ms - last_ms <= gap_ms), start, stops)
