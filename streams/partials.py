"""Exact partial aggregates of one column, tile by tile, for adding events.

They are counts, sums, sums of squares, minima, maxima, and beside them `streams.cells` for what needs more
than a number. Written, sums take the least shift and the least width that hold them, so equal sums are equal
bytes.
"""

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streams.aggregates import CELLS, ColumnPartials, Parts
from streams.spans import AggregationSpec
from streams.stored_arrays import double_array, integer_array

if TYPE_CHECKING:
    from array import array

    from streams.cells import ValueCells

SCALED_HEADER = struct.Struct("<HH")
"""What precedes integers in units of 2**-shift: the shift, and the width of each in bytes."""


class Partials(ColumnPartials):
    """The partial aggregates of one column, to which events can be added."""

    __slots__ = ("cells", "counts", "maxima", "minima", "shift", "squares", "sums")

    def __init__(self, parts: Parts) -> None:
        """Start without tiles."""
        self.shift = 0
        """Sums are integers in units of 2**-shift, sums of squares in units of 2**-2shift."""
        self.counts: list[int] = []
        self.sums: list[int] | None = [] if parts.sums else None
        self.squares: list[int] | None = [] if parts.squares else None
        self.minima: list[float] | None = [] if parts.minima else None
        self.maxima: list[float] | None = [] if parts.maxima else None
        self.cells: dict[type[ValueCells[Any]], ValueCells[Any]] = {kind: kind() for kind in parts.cells}

    def insert(self, index: int) -> None:
        """Insert a tile without values."""
        self.counts.insert(index, 0)
        if self.sums is not None:
            self.sums.insert(index, 0)
        if self.squares is not None:
            self.squares.insert(index, 0)
        if self.minima is not None:
            self.minima.insert(index, math.inf)
        if self.maxima is not None:
            self.maxima.insert(index, -math.inf)
        for cells in self.cells.values():
            cells.insert(index)

    def add(self, index: int, value: Any, time_ms: int) -> None:
        """Add an event's value to a tile: a finite number; a string or bool if the functions take one."""
        self.counts[index] += 1
        if self.sums is not None:
            numerator, denominator = value.as_integer_ratio()
            shift = denominator.bit_length() - 1
            if shift > self.shift:
                self.rescale(shift)
            scaled = numerator << (self.shift - shift)
            self.sums[index] += scaled
            if self.squares is not None:
                self.squares[index] += scaled * scaled
        if self.minima is not None and value < self.minima[index]:
            self.minima[index] = value + 0.0  # -0.0 becomes 0.0: their order must not matter
        if self.maxima is not None and value > self.maxima[index]:
            self.maxima[index] = value + 0.0
        for cells in self.cells.values():
            cells.add(index, value, time_ms)

    def append_all(self, values: Sequence[Any], times_ms: Sequence[int]) -> None:
        """Append one tile for each event; values may be null."""
        if self.cells or None in values:
            for value, time_ms in zip(values, times_ms, strict=True):
                index = len(self.counts)
                self.insert(index)
                if value is not None:
                    self.add(index, value, time_ms)
            return
        self.counts += [1] * len(values)
        if self.sums is not None:
            self._append_sums(values)
        if self.minima is not None:
            self.minima += [value + 0.0 for value in values]
        if self.maxima is not None:
            self.maxima += [value + 0.0 for value in values]

    def _append_sums(self, values: Sequence[Any]) -> None:
        ratios = [value.as_integer_ratio() for value in values]
        shift = max(denominator for _, denominator in ratios).bit_length() - 1
        if shift > self.shift:
            self.rescale(shift)
        unit = 1 << self.shift
        scaled = [numerator * (unit // denominator) for numerator, denominator in ratios]
        assert self.sums is not None
        self.sums += scaled
        if self.squares is not None:
            self.squares += [entry * entry for entry in scaled]

    def rescale(self, shift: int) -> None:
        """Convert the sums to units of 2**-shift, which must not be larger than the current ones."""
        more = shift - self.shift
        self.shift = shift
        if self.sums is not None:
            self.sums = [entry << more for entry in self.sums]
        if self.squares is not None:
            self.squares = [entry << 2 * more for entry in self.squares]

    def extend(self, other: "Partials") -> None:
        """Append the tiles of another."""
        shift = max(self.shift, other.shift)
        self.rescale(shift)
        self.counts += other.counts
        if self.sums is not None and other.sums is not None:
            self.sums += [entry << shift - other.shift for entry in other.sums]
        if self.squares is not None and other.squares is not None:
            self.squares += [entry << 2 * (shift - other.shift) for entry in other.squares]
        if self.minima is not None and other.minima is not None:
            self.minima += other.minima
        if self.maxima is not None and other.maxima is not None:
            self.maxima += other.maxima
        for kind, cells in self.cells.items():
            cells.extend(other.cells[kind])

    def regroup(self, start: int, stop: int, groups: Sequence[Sequence[int]]) -> None:
        """Replace the tiles from ``start`` to ``stop`` (exclusive) by one for each group of tile indexes."""
        self.counts[start:stop] = [sum(self.counts[i] for i in group) for group in groups]
        if self.sums is not None:
            self.sums[start:stop] = [sum(self.sums[i] for i in group) for group in groups]
        if self.squares is not None:
            self.squares[start:stop] = [sum(self.squares[i] for i in group) for group in groups]
        if self.minima is not None:
            self.minima[start:stop] = [min(self.minima[i] for i in group) for group in groups]
        if self.maxima is not None:
            self.maxima[start:stop] = [max(self.maxima[i] for i in group) for group in groups]
        for cells in self.cells.values():
            cells.regroup(start, stop, groups)

    def drop(self, tiles: int) -> None:
        """Remove the oldest tiles."""
        for part in (self.counts, self.sums, self.squares, self.minima, self.maxima):
            if part is not None:
                del part[:tiles]
        for cells in self.cells.values():
            cells.drop(tiles)

    def keep_only(self, index: int, parts: Parts) -> None:
        """Clear what these parts do not need of a tile; its count stays."""
        if self.sums is not None and not parts.sums:
            self.sums[index] = 0
        if self.squares is not None and not parts.squares:
            self.squares[index] = 0
        if self.minima is not None and not parts.minima:
            self.minima[index] = math.inf
        if self.maxima is not None and not parts.maxima:
            self.maxima[index] = -math.inf
        for kind, cells in self.cells.items():
            if kind not in parts.cells:
                cells.clear(index)

    def _cell_value(self, item: AggregationSpec, start: int, stop: int) -> float | str:
        return self.cells[CELLS[item.function]].value(start, stop, item.percentile)

    def _totals(self, start: int, stop: int) -> tuple[int, int, int]:
        assert self.sums is not None
        squares = sum(self.squares[start:stop]) if self.squares is not None else 0
        return sum(self.sums[start:stop]), squares, self.shift

    def to_bytes(self) -> bytes:
        """Write the counts, then each part that is kept, in a fixed order."""
        written: list[bytes | array[int] | array[float]] = [integer_array(self.counts)]
        if self.sums is not None:
            written.append(_write_scaled(self.sums, self.shift))
        if self.squares is not None:
            written.append(_write_scaled(self.squares, 2 * self.shift))
        extremes = (part for part in (self.minima, self.maxima) if part is not None)
        written += [double_array(part) for part in extremes]
        return b"".join([*written, *(cells.to_bytes() for cells in self.cells.values())])


def _write_scaled(entries: list[int], shift: int) -> bytes:
    """Write integers in units of 2**-shift, with the least shift and width that hold them."""
    if shift:
        used = 0
        for entry in entries:
            used |= entry
        spare = min(shift, (used & -used).bit_length() - 1) if used else shift
        entries = [entry >> spare for entry in entries]
        shift -= spare
    try:
        return SCALED_HEADER.pack(shift, 8) + integer_array(entries)
    except OverflowError:
        width = max(entry.bit_length() // 64 + 1 for entry in entries) * 8
        return SCALED_HEADER.pack(shift, width) + b"".join(
            entry.to_bytes(width, "little", signed=True) for entry in entries
        )
