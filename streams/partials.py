"""Exact partial aggregates of one column, tile by tile: counts, sums, sums of squares, minima, maxima.

What is more than a number, such as the last value or a sketch, stands beside them as `streams.cells`.

Every finite double is an integer times a power of two, so a sum of doubles is kept as an integer in
units of 2**-shift. Such sums do not depend on the order of the addends, and a value that is derived
from them is rounded once, correctly. Written, they take the least shift and the least width that hold
them, so equal sums are equal bytes.
"""

import abc
import itertools
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from streams.cells import (
    AnyArray,
    ArrayReader,
    Float64s,
    Int64s,
    StoredCells,
    ValueCells,
    double_array,
    integer_array,
)
from streams.distincts import Distincts
from streams.ends import Firsts, Lasts
from streams.quantiles import Quantiles
from streams.spans import AggregationSpec

if TYPE_CHECKING:
    from array import array

NUMBERS = ("count", "sum", "mean", "avg", "min", "max", "std", "stddev", "var", "variance")
CELLS: Mapping[str, type[ValueCells[Any]]] = {
    "first": Firsts,
    "last": Lasts,
    "count_distinct": Distincts,
    "approx_count_distinct": Distincts,
    "approx_percentile": Quantiles,
}
"""What is kept for the functions that need more than numbers."""
FUNCTIONS = (*NUMBERS, *CELLS)
"""With Feast's names and meaning: nulls do not count; std and var are those of a sample."""
_SUMS = frozenset({"sum", "mean", "avg", "std", "stddev", "var", "variance"})
_SQUARES = frozenset({"std", "stddev", "var", "variance"})
_EXACT = float(2**53)
"""Up to here every integer is a double."""
_SCALED = struct.Struct("<HH")


class StoredStateError(ValueError):
    """Stored bytes are not the state that they should be."""


class Parts(NamedTuple):
    """Which partial aggregates a column needs; counts are always there."""

    sums: bool
    squares: bool
    minima: bool
    maxima: bool
    cells: tuple[type[ValueCells[Any]], ...]
    """In the order of `CELLS`, each once."""

    @classmethod
    def of(cls, functions: Iterable[str]) -> Self:
        """Return what these functions need."""
        used = set(functions)
        cells = tuple(dict.fromkeys(kind for function, kind in CELLS.items() if function in used))
        return cls(bool(used & _SUMS), bool(used & _SQUARES), "min" in used, "max" in used, cells)


class _Column(abc.ABC):
    """The partial aggregates of one column, one entry a tile in each sequence that is needed."""

    __slots__ = ()
    counts: Any
    minima: Any
    maxima: Any  # each a list or a memoryview: of those two, the type of a slice is not one of sequences

    def value(self, item: AggregationSpec, low: int, high: int) -> float | str:
        """Aggregate the tiles from low to before high; nan where there is no value."""
        function = item.function
        if function in CELLS:
            return self._cell_value(item, low, high)
        count: int = sum(self.counts[low:high])
        if function == "count":
            return float(count)
        if count == 0:
            return math.nan
        if function in ("min", "max"):
            extreme: float = min(self.minima[low:high]) if function == "min" else max(self.maxima[low:high])
            return extreme
        return _finish(function, count, *self._totals(low, high))

    @abc.abstractmethod
    def _cell_value(self, item: AggregationSpec, low: int, high: int) -> float | str:
        """Ask the cells of the function."""

    @abc.abstractmethod
    def _totals(self, low: int, high: int) -> tuple[int, int, int]:
        """Return the sum in units of 2**-shift, the squares' in units of 2**-2shift, and the shift."""


class Partials(_Column):
    """For adding events."""

    __slots__ = ("cells", "counts", "maxima", "minima", "shift", "squares", "sums")

    def __init__(self, parts: Parts) -> None:
        """Start without tiles."""
        self.shift = 0
        """Sums are integers in units of 2**-shift, squares in units of 2**-2shift."""
        self.counts: list[int] = []
        self.sums: list[int] | None = [] if parts.sums else None
        self.squares: list[int] | None = [] if parts.squares else None
        self.minima: list[float] | None = [] if parts.minima else None
        self.maxima: list[float] | None = [] if parts.maxima else None
        self.cells: dict[type[ValueCells[Any]], ValueCells[Any]] = {kind: kind() for kind in parts.cells}

    def insert(self, index: int) -> None:
        """Make room for a tile without values."""
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
        """Add the value of an event to a tile: a finite number, a string or a bool, as the functions take."""
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
            self.minima[index] = value + 0.0  # so that -0.0 does not depend on the order
        if self.maxima is not None and value > self.maxima[index]:
            self.maxima[index] = value + 0.0
        for cells in self.cells.values():
            cells.add(index, value, time_ms)

    def append_all(self, values: Sequence[Any], times_ms: Sequence[int]) -> None:
        """Add a tile for each of some events, of which values may be null."""
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
        """Write the sums in smaller units."""
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

    def regroup(self, first: int, end: int, groups: Sequence[Sequence[int]]) -> None:
        """Replace the tiles from first to before end by one for each group of them."""
        self.counts[first:end] = [sum(self.counts[i] for i in group) for group in groups]
        if self.sums is not None:
            self.sums[first:end] = [sum(self.sums[i] for i in group) for group in groups]
        if self.squares is not None:
            self.squares[first:end] = [sum(self.squares[i] for i in group) for group in groups]
        if self.minima is not None:
            self.minima[first:end] = [min(self.minima[i] for i in group) for group in groups]
        if self.maxima is not None:
            self.maxima[first:end] = [max(self.maxima[i] for i in group) for group in groups]
        for cells in self.cells.values():
            cells.regroup(first, end, groups)

    def drop(self, tiles: int) -> None:
        """Forget the oldest tiles."""
        for part in (self.counts, self.sums, self.squares, self.minima, self.maxima):
            if part is not None:
                del part[:tiles]
        for cells in self.cells.values():
            cells.drop(tiles)

    def keep_only(self, index: int, parts: Parts) -> None:
        """Forget of a tile what these parts do not need; its count stays."""
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

    def _cell_value(self, item: AggregationSpec, low: int, high: int) -> float | str:
        return self.cells[CELLS[item.function]].value(low, high, item.percentile)

    def _totals(self, low: int, high: int) -> tuple[int, int, int]:
        assert self.sums is not None
        squares = sum(self.squares[low:high]) if self.squares is not None else 0
        return sum(self.sums[low:high]), squares, self.shift

    def to_bytes(self) -> bytes:
        """Write the counts, then each part that there is, in a fixed order."""
        written: list[bytes | array[int] | array[float]] = [integer_array(self.counts)]
        if self.sums is not None:
            written.append(_write_scaled(self.sums, self.shift))
        if self.squares is not None:
            written.append(_write_scaled(self.squares, 2 * self.shift))
        extremes = (part for part in (self.minima, self.maxima) if part is not None)
        written += [double_array(part) for part in extremes]
        return b"".join([*written, *(cells.to_bytes() for cells in self.cells.values())])


def _finish(function: str, count: int, total: int, squares: int, shift: int) -> float:
    """Turn exact sums into the correctly rounded value."""
    if function == "sum":
        return _ratio(total, 1 << shift)
    if function in ("mean", "avg"):
        return _ratio(total, count << shift)
    if count < 2:
        return math.nan  # a sample of one has no variance
    variance = _ratio(count * squares - total * total, count * (count - 1) << 2 * shift)
    return math.sqrt(variance) if function.startswith("std") else variance


def _ratio(numerator: int, denominator: int) -> float:
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


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
        return _SCALED.pack(shift, 8) + integer_array(entries)
    except OverflowError:
        width = max(entry.bit_length() // 64 + 1 for entry in entries) * 8
        return _SCALED.pack(shift, width) + b"".join(
            entry.to_bytes(width, "little", signed=True) for entry in entries
        )


class _Scaled:
    """Exact numbers as stored, all of one width; nothing is decoded before it is needed."""

    def __init__(self, reader: ArrayReader) -> None:
        """Look at the next ones; raise ValueError or struct.error if the bytes are none."""
        self.shift, self._width = _SCALED.unpack(reader.part(_SCALED.size))
        if not self._width or self._width % 8:
            raise ValueError(f"numbers of {self._width} bytes")
        self._raw = reader.part(reader.size * self._width)
        self._numbers = self._raw.cast("q") if self._width == 8 else None

    def total(self, low: int, high: int) -> int:
        """Sum the entries from low to before high."""
        return sum(self._numbers[low:high] if self._numbers is not None else self._wide(low, high))

    def _wide(self, low: int, high: int) -> list[int]:
        width = self._width
        chunks = (self._raw[at : at + width] for at in range(low * width, high * width, width))
        return [int.from_bytes(chunk, "little", signed=True) for chunk in chunks]

    @cached_property
    def _limbs(self) -> AnyArray:
        """(n, width / 4): limbs of 32 bits, the last one with the sign."""
        return np.frombuffer(self._raw, dtype="<u4").reshape(-1, self._width // 4)

    @cached_property
    def entries(self) -> Int64s | None:
        """The numbers themselves, if they fit."""
        return np.frombuffer(self._numbers, dtype="<i8") if self._numbers is not None else None

    @cached_property
    def is_fast(self) -> bool:
        """Tell whether every sum of neighbours is a double without rounding."""
        if self.entries is None or self.shift > 1000:
            return False  # beyond that shift a quotient may be subnormal, and would be rounded twice
        return float(np.abs(self.entries.astype(np.float64)).sum()) < _EXACT / 2

    @cached_property
    def prefix(self) -> Int64s:
        """Running sums, beginning with 0; where `is_fast`."""
        return _running(np.asarray(self.entries))

    @cached_property
    def _limbs_prefix(self) -> Int64s:
        """(n + 1, width / 32): running sums of each limb. They stay exact for 2**31 tiles."""
        limbs = self._limbs.astype(np.int64)
        limbs[:, -1] = self._limbs[:, -1].astype(np.int32)
        return _running(limbs)

    def sums(self, low: Int64s, high: Int64s) -> list[int]:
        """Sum the entries from low to before high, for (n,) pairs."""
        totals: list[int]
        totals, *higher = (self._limbs_prefix[high] - self._limbs_prefix[low]).T.tolist()
        for place, limbs in enumerate(higher, start=1):
            shift = 32 * place
            totals = [total + (limb << shift) for total, limb in zip(totals, limbs, strict=True)]
        return totals

    def to_list(self) -> list[int]:
        """Return Python's integers."""
        if self._numbers is not None:
            return self._numbers.tolist()
        return self._wide(0, len(self._raw) // self._width)


class StoredPartials(_Column):
    """As they were written, for evaluating windows: few ones number by number, many at once."""

    def __init__(self, parts: Parts, reader: ArrayReader) -> None:
        """Look at one column; raise ValueError or struct.error if the bytes end before."""
        self.counts = reader.look_at_integers()
        self.sums = _Scaled(reader) if parts.sums else None
        self.squares = _Scaled(reader) if parts.squares else None
        self.minima = reader.look_at_doubles() if parts.minima else None
        self.maxima = reader.look_at_doubles() if parts.maxima else None
        self.cells: Mapping[type[ValueCells[Any]], StoredCells] = {
            kind: kind.read(reader) for kind in parts.cells
        }

    def _cell_value(self, item: AggregationSpec, low: int, high: int) -> float | str:
        stored = self.cells[CELLS[item.function]]
        value: float | str
        (value,) = stored.values(np.array([low]), np.array([high]), item.percentile).tolist()
        return value

    def _totals(self, low: int, high: int) -> tuple[int, int, int]:
        assert self.sums is not None
        shift, total = self._shift, self.sums.total(low, high)
        squares = 0
        if self.squares is not None:
            squares = self.squares.total(low, high) << 2 * shift - self.squares.shift
        return total << shift - self.sums.shift, squares, shift

    @cached_property
    def _shift(self) -> int:
        """The least one in which both sums and squares are integers."""
        return max(self.sums.shift if self.sums else 0, (self.squares.shift + 1) // 2 if self.squares else 0)

    @cached_property
    def _counts_prefix(self) -> Int64s:
        return _running(np.frombuffer(self.counts, dtype="<i8"))

    def to_partials(self, parts: Parts) -> Partials:
        """Return what was written."""
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

    def values(self, item: AggregationSpec, low: Int64s, high: Int64s) -> AnyArray:
        """Aggregate the tiles from low to before high, for (n,) pairs at once."""
        function = item.function
        if function in CELLS:
            return self.cells[CELLS[function]].values(low, high, item.percentile)
        counts = self._counts_prefix[high] - self._counts_prefix[low]
        if function == "count":
            return counts.astype(np.float64)
        if function in ("min", "max"):
            return self._extremes(function, low, high, counts)
        assert self.sums is not None
        if self.sums.is_fast and function in ("sum", "mean", "avg"):
            totals = (self.sums.prefix[high] - self.sums.prefix[low]).astype(np.float64)
            divisors = np.where(counts > 0, 1 if function == "sum" else counts, np.nan)
            quotients: Float64s = np.ldexp(totals / divisors, -self.sums.shift)
            return quotients
        return self._exact_values(function, self.sums, low, high, counts)

    def _exact_values(
        self, function: str, sums: _Scaled, low: Int64s, high: Int64s, counts: Int64s
    ) -> Float64s:
        shift = self._shift
        totals = _differences(sums, shift, low, high)
        squares = _differences(self.squares, 2 * shift, low, high) if self.squares else itertools.repeat(0)
        rows = zip(counts.tolist(), totals, squares, strict=False)
        return np.array(
            [_finish(function, n, total, square, shift) if n else math.nan for n, total, square in rows]
        )

    def _extremes(self, function: str, low: Int64s, high: Int64s, counts: Int64s) -> Float64s:
        entries = self.minima if function == "min" else self.maxima
        assert entries is not None
        reduce_at = np.minimum.reduceat if function == "min" else np.maximum.reduceat
        padded = np.append(
            np.frombuffer(entries, dtype="<f8"), np.nan
        )  # reduceat's indices must exist, also the one past the end
        pairs = np.stack([low, high], axis=1).ravel()
        found: Float64s = np.where(counts > 0, reduce_at(padded, pairs)[::2], np.nan)
        return found


def _differences(scaled: _Scaled, shift: int, low: Int64s, high: Int64s) -> Iterable[int]:
    more = shift - scaled.shift
    return (total << more for total in scaled.sums(low, high))


def _running(entries: Int64s) -> Int64s:
    prefix = np.zeros((len(entries) + 1, *entries.shape[1:]), dtype=np.int64)
    np.cumsum(entries, axis=0, out=prefix[1:])
    return prefix
