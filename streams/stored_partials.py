"""Exact partial aggregates of one column as they were written, for evaluating windows.

One window is evaluated number by number (`ColumnPartials.value`), many windows of one entity at once with
running sums (`StoredPartials.values`). Both ways give the same bits. See `streams.stored_tiles` for who uses
which.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from streams.aggregates import CELLS, ColumnPartials, Parts, from_sums
from streams.partials import SCALED_HEADER, Partials
from streams.spans import AggregationSpec
from streams.stored_arrays import AnyArray, ArrayReader, Float64s, Int64s

if TYPE_CHECKING:
    from streams.cells import StoredCells, ValueCells

_EXACT = float(2**53)
"""Every integer up to this one is a double."""


class ScaledIntegers:
    """Integers in units of 2**-shift as stored, all of one width; decoded only when needed."""

    def __init__(self, reader: ArrayReader) -> None:
        """Read the header; raise ValueError or struct.error if the bytes are no such integers."""
        self.shift, self._width = SCALED_HEADER.unpack(reader.part(SCALED_HEADER.size))
        if not self._width or self._width % 8:
            raise ValueError(f"integers of {self._width} bytes; the width must be a multiple of 8")
        self._raw = reader.part(reader.size * self._width)
        self._integers = self._raw.cast("q") if self._width == 8 else None

    def total(self, start: int, stop: int) -> int:
        """Sum the entries from ``start`` to ``stop`` (exclusive)."""
        return sum(self._integers[start:stop] if self._integers is not None else self._wide(start, stop))

    def _wide(self, start: int, stop: int) -> list[int]:
        width = self._width
        chunks = (self._raw[at : at + width] for at in range(start * width, stop * width, width))
        return [int.from_bytes(chunk, "little", signed=True) for chunk in chunks]

    @cached_property
    def _limbs(self) -> AnyArray:
        """(n, width / 4): limbs of 32 bits; the last one holds the sign."""
        return np.frombuffer(self._raw, dtype="<u4").reshape(-1, self._width // 4)

    @cached_property
    def entries(self) -> Int64s | None:
        """(n,): the integers themselves; None if they take more than 64 bits."""
        return np.frombuffer(self._integers, dtype="<i8") if self._integers is not None else None

    @cached_property
    def is_fast(self) -> bool:
        """Return whether every sum of consecutive entries is a double without rounding."""
        if self.entries is None or self.shift > 1000:
            return False  # beyond that shift a quotient may be subnormal, and would be rounded twice
        return float(np.abs(self.entries.astype(np.float64)).sum()) < _EXACT / 2

    @cached_property
    def prefix(self) -> Int64s:
        """(n + 1,): running sums, beginning with 0; only valid if `is_fast`."""
        return _running(np.asarray(self.entries))

    @cached_property
    def _limbs_prefix(self) -> Int64s:
        """(n + 1, width / 4): running sums of each limb, exact for up to 2**31 tiles."""
        limbs = self._limbs.astype(np.int64)
        limbs[:, -1] = self._limbs[:, -1].astype(np.int32)
        return _running(limbs)

    def sums(self, starts: Int64s, stops: Int64s) -> list[int]:
        """Sum the entries from start to stop (exclusive), for (n,) pairs."""
        totals: list[int]
        totals, *higher = (self._limbs_prefix[stops] - self._limbs_prefix[starts]).T.tolist()
        for place, limbs in enumerate(higher, start=1):
            shift = 32 * place
            totals = [total + (limb << shift) for total, limb in zip(totals, limbs, strict=True)]
        return totals

    def to_list(self) -> list[int]:
        """Return all as Python integers."""
        if self._integers is not None:
            return self._integers.tolist()
        return self._wide(0, len(self._raw) // self._width)


class StoredPartials(ColumnPartials):
    """The partial aggregates of one column, as written."""

    def __init__(self, parts: Parts, reader: ArrayReader) -> None:
        """Read one column without decoding it; raise ValueError or struct.error if bytes are missing."""
        self.counts = reader.integers_view()
        self.sums = ScaledIntegers(reader) if parts.sums else None
        self.squares = ScaledIntegers(reader) if parts.squares else None
        self.minima = reader.doubles_view() if parts.minima else None
        self.maxima = reader.doubles_view() if parts.maxima else None
        self.cells: Mapping[type[ValueCells[Any]], StoredCells] = {
            kind: kind.read(reader) for kind in parts.cells
        }

    def _cell_value(self, item: AggregationSpec, start: int, stop: int) -> float | str:
        stored = self.cells[CELLS[item.function]]
        value: float | str
        (value,) = stored.values(np.array([start]), np.array([stop]), item.percentile).tolist()
        return value

    def _totals(self, start: int, stop: int) -> tuple[int, int, int]:
        assert self.sums is not None
        shift, total = self._shift, self.sums.total(start, stop)
        squares = 0
        if self.squares is not None:
            squares = self.squares.total(start, stop) << 2 * shift - self.squares.shift
        return total << shift - self.sums.shift, squares, shift

    @cached_property
    def _shift(self) -> int:
        """The least shift with which both the sums and the sums of squares are integers."""
        return max(self.sums.shift if self.sums else 0, (self.squares.shift + 1) // 2 if self.squares else 0)

    @cached_property
    def _counts_prefix(self) -> Int64s:
        return _running(np.frombuffer(self.counts, dtype="<i8"))

    def to_partials(self, parts: Parts) -> Partials:
        """Return the column for adding events."""
        partials = Partials(parts)
        partials.counts = self.counts.tolist()
        partials.shift = self._shift
        if self.sums:
            more = self._shift - self.sums.shift
            partials.sums = [entry << more for entry in self.sums.to_list()]
        if self.squares:
            more = 2 * self._shift - self.squares.shift
            partials.squares = [entry << more for entry in self.squares.to_list()]
        partials.minima = self.minima.tolist() if self.minima is not None else None
        partials.maxima = self.maxima.tolist() if self.maxima is not None else None
        partials.cells = {kind: stored.to_cells() for kind, stored in self.cells.items()}
        return partials

    def values(self, item: AggregationSpec, starts: Int64s, stops: Int64s) -> AnyArray:
        """Aggregate the tiles from start to stop (exclusive) of (n,) windows at once; returns (n,)."""
        function = item.function
        if function in CELLS:
            return self.cells[CELLS[function]].values(starts, stops, item.percentile)
        counts = self._counts_prefix[stops] - self._counts_prefix[starts]
        if function == "count":
            return counts.astype(np.float64)
        if function in ("min", "max"):
            return self._extremes(function, starts, stops, counts)
        assert self.sums is not None
        if self.sums.is_fast and function in ("sum", "mean", "avg"):
            totals = (self.sums.prefix[stops] - self.sums.prefix[starts]).astype(np.float64)
            divisors = np.where(counts > 0, 1 if function == "sum" else counts, np.nan)
            quotients: Float64s = np.ldexp(totals / divisors, -self.sums.shift)
            return quotients
        return self._exact_values(function, self.sums, starts, stops, counts)

    def _exact_values(
        self, function: str, sums: ScaledIntegers, starts: Int64s, stops: Int64s, counts: Int64s
    ) -> Float64s:
        shift = self._shift
        totals = _differences(sums, shift, starts, stops)
        squares = (
            _differences(self.squares, 2 * shift, starts, stops) if self.squares else itertools.repeat(0)
        )
        rows = zip(counts.tolist(), totals, squares, strict=False)
        return np.array(
            [from_sums(function, n, total, square, shift) if n else math.nan for n, total, square in rows]
        )

    def _extremes(self, function: str, starts: Int64s, stops: Int64s, counts: Int64s) -> Float64s:
        entries = self.minima if function == "min" else self.maxima
        assert entries is not None
        reduce_at = np.minimum.reduceat if function == "min" else np.maximum.reduceat
        padded = np.append(
            np.frombuffer(entries, dtype="<f8"), np.nan
        )  # reduceat's indices must exist, also the one past the end
        pairs = np.stack([starts, stops], axis=1).ravel()
        found: Float64s = np.where(counts > 0, reduce_at(padded, pairs)[::2], np.nan)
        return found


def _differences(scaled: ScaledIntegers, shift: int, starts: Int64s, stops: Int64s) -> Iterable[int]:
    more = shift - scaled.shift
    return (total << more for total in scaled.sums(starts, stops))


def _running(entries: Int64s) -> Int64s:
    prefix = np.zeros((len(entries) + 1, *entries.shape[1:]), dtype=np.int64)
    np.cumsum(entries, axis=0, out=prefix[1:])
    return prefix
