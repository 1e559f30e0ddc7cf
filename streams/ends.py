"""The first and the last value of a column in each tile: numbers, bools as 0 and 1, or texts.

If two values have the same event time, the larger one counts as the later one. So the result depends on the
events alone, not on the partition and offset of each.
"""

import dataclasses
import math
import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streams.cells import ValueCells
from streams.stored_arrays import AnyArray, ArrayReader, Int64s

_NEVER = -(2**63)
"""The time of a tile without values."""
_NO_VALUE = (_NEVER, math.nan)

End = tuple[int, float | str]
"""Event time in milliseconds, and value."""


class _Ends(ValueCells[End]):
    """The first or the last value of each tile."""

    def empty(self) -> End:
        return _NO_VALUE

    def add(self, index: int, value: float | str, time_ms: int) -> None:
        kept = value if isinstance(value, str) else value + 0.0  # -0.0 becomes 0.0, as in `streams.partials`
        self.cells[index] = self.merged([self.cells[index], (time_ms, kept)])

    def to_bytes(self) -> bytes:
        """Write all times, all numbers (nan for a text), the sizes of texts in bytes, the texts in UTF-8."""
        times, values = zip(*self.cells, strict=True) if self.cells else ((), ())
        written = [np.array(times, dtype="<i8").tobytes()]
        doubles = struct.Struct(f"<{len(values)}d")
        try:
            written.append(doubles.pack(*values))
        except struct.error:
            texts = [value.encode() for value in values if isinstance(value, str)]
            written.append(doubles.pack(*(math.nan if isinstance(value, str) else value for value in values)))
            written.append(np.array([len(text) for text in texts], dtype="<u4").tobytes())
            written += texts
        return b"".join(written)


class Firsts(_Ends):
    """The first value of each tile."""

    def merged(self, cells: Sequence[End]) -> End:
        """Return the earliest."""
        return min((cell for cell in cells if cell[0] != _NEVER), default=_NO_VALUE)

    def value(self, start: int, stop: int, percentile: float) -> float | str:
        """Return the value of the first event; nan if there is none."""
        del percentile
        return next((value for time_ms, value in self.cells[start:stop] if time_ms != _NEVER), math.nan)

    @classmethod
    def read(cls, reader: ArrayReader) -> "_StoredFirsts":
        """Read times and values."""
        return _StoredFirsts(*_read(reader))


class Lasts(_Ends):
    """The last value of each tile."""

    def merged(self, cells: Sequence[End]) -> End:
        """Return the latest."""
        return max((cell for cell in cells if cell[0] != _NEVER), default=_NO_VALUE)

    def value(self, start: int, stop: int, percentile: float) -> float | str:
        """Return the value of the last event; nan if there is none."""
        del percentile
        newest_first = reversed(self.cells[start:stop])
        return next((value for time_ms, value in newest_first if time_ms != _NEVER), math.nan)

    @classmethod
    def read(cls, reader: ArrayReader) -> "_StoredLasts":
        """Read times and values."""
        return _StoredLasts(*_read(reader))


def _read(reader: ArrayReader) -> tuple[Int64s, AnyArray]:
    times_ms, ends = reader.integers(), reader.doubles()
    is_text = (times_ms != _NEVER) & np.isnan(ends)
    if not is_text.any():
        return times_ms, ends
    stops = np.cumsum(reader.array("<u4", int(is_text.sum())), dtype=np.int64).tolist()
    raw = reader.array("u1", stops[-1]).tobytes()
    mixed = ends.astype(object)
    mixed[is_text] = [raw[start:stop].decode() for start, stop in zip([0, *stops], stops, strict=False)]
    return times_ms, mixed


@dataclasses.dataclass(frozen=True)
class _StoredEnds:
    """One entry per tile.

    Tiles are in time order, so the first (last) tile with a value has a window's first (last).
    """

    times_ms: Int64s
    ends: AnyArray
    """(tiles,) float64; object if there are texts."""

    def _to_list(self) -> list[End]:
        return list(zip(self.times_ms.tolist(), self.ends.tolist(), strict=True))

    def _take(self, index: Int64s, found: npt.NDArray[np.bool_]) -> AnyArray:
        taken: AnyArray = np.append(self.ends, np.nan)[np.where(found, index, -1)]
        return taken


class _StoredFirsts(_StoredEnds):
    def to_cells(self) -> Firsts:
        return Firsts(self._to_list())

    def values(self, starts: Int64s, stops: Int64s, percentile: float) -> AnyArray:
        del percentile
        size = len(self.ends)
        indexes = np.where(self.times_ms != _NEVER, np.arange(size), size)
        first_from = np.append(np.minimum.accumulate(indexes[::-1])[::-1], size)
        return self._take(first_from[starts], first_from[starts] < stops)


class _StoredLasts(_StoredEnds):
    def to_cells(self) -> Lasts:
        return Lasts(self._to_list())

    def values(self, starts: Int64s, stops: Int64s, percentile: float) -> AnyArray:
        del percentile
        indexes = np.where(self.times_ms != _NEVER, np.arange(len(self.ends)), -1)
        last_before = np.append(-1, np.maximum.accumulate(indexes))
        return self._take(last_before[stops], last_before[stops] >= starts)
