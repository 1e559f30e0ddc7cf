"""Where sessions begin: the first and the last event time in each tile.

A tile is never longer than the gap, so what divides two sessions is always between two tiles.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from streams.cells import ArrayReader, Cells, Int64s

Extent = tuple[int, int]
"""Event times of the first and the last event, whatever their values."""
_EMPTY = (2**63 - 1, -(2**63))


class Extents(Cells[Extent]):
    """One for each tile."""

    def empty(self) -> Extent:
        """Return the extent of a tile that is about to get its first event."""
        return _EMPTY

    def merged(self, cells: Sequence[Extent]) -> Extent:
        """Return the extent of all."""
        return min(first for first, _ in cells), max(last for _, last in cells)

    def add(self, index: int, time_ms: int) -> None:
        """Count an event in."""
        self.cells[index] = self.merged([self.cells[index], (time_ms, time_ms)])

    def newest_from(self, gap_ms: int) -> int:
        """Return the index of the tile with which the newest session begins."""
        index = max(len(self.cells) - 1, 0)
        while index and self.cells[index][0] - self.cells[index - 1][1] <= gap_ms:
            index -= 1
        return index

    def to_bytes(self) -> bytes:
        """Write the firsts, then the lasts."""
        return np.array(self.cells, dtype="<i8").reshape(-1, 2).T.tobytes()


@dataclasses.dataclass(frozen=True)
class StoredExtents:
    """As written, for many times at once."""

    firsts_ms: Int64s
    lasts_ms: Int64s

    @classmethod
    def read(cls, reader: ArrayReader) -> "StoredExtents":
        """Read what was written; raise ValueError if the bytes end before."""
        return cls(reader.integers(), reader.integers())

    def to_cells(self) -> Extents:
        """Return what was written."""
        return Extents(list(zip(self.firsts_ms.tolist(), self.lasts_ms.tolist(), strict=True)))

    def starts(self, high: Int64s, times_ms: Int64s, gap_ms: int) -> Int64s:
        """Return with which tile the session begins that is open at (n,) times; high itself if none is.

        ``high`` counts the tiles up to each time.
        """
        begins = np.append(0, 1 + np.flatnonzero(self.firsts_ms[1:] - self.lasts_ms[:-1] > gap_ms))
        start = begins[np.searchsorted(begins, high - 1, side="right") - 1]
        last_ms = np.append(self.lasts_ms, np.iinfo(np.int64).min // 2)[high - 1]
        return np.where((high > 0) & (times_ms - last_ms <= gap_ms), start, high)
