"""The aggregate functions, and which partial aggregates each of them needs of a column's tiles.

Every finite double is an integer times a power of two, so a sum of doubles is kept as an integer in units of
2**-shift. Such sums do not depend on the order of the addends, and a value that is derived from them is
rounded once, correctly.
"""

import abc
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from streams.cells import ValueCells
from streams.distincts import Distincts
from streams.ends import Firsts, Lasts
from streams.quantiles import Quantiles
from streams.spans import AggregationSpec

NUMBERS = ("count", "sum", "mean", "avg", "min", "max", "std", "stddev", "var", "variance")
"""Functions that are computed from numbers alone."""
CELLS: Mapping[str, type[ValueCells[Any]]] = {
    "first": Firsts,
    "last": Lasts,
    "count_distinct": Distincts,
    "approx_count_distinct": Distincts,
    "approx_percentile": Quantiles,
}
"""The cells of the functions that need more than numbers."""
FUNCTIONS = (*NUMBERS, *CELLS)
"""All functions, with Feast's names and meaning: nulls do not count; std and var are those of a sample."""
_SUMS = frozenset({"sum", "mean", "avg", "std", "stddev", "var", "variance"})
_SQUARES = frozenset({"std", "stddev", "var", "variance"})


class Parts(NamedTuple):
    """Which partial aggregates a column needs; counts are always kept."""

    sums: bool
    squares: bool
    minima: bool
    maxima: bool
    cells: tuple[type[ValueCells[Any]], ...]
    """The kinds of cells, each once, in the order of `CELLS`."""

    @classmethod
    def of(cls, functions: Iterable[str]) -> Self:
        """Return what these functions need."""
        used = set(functions)
        cells = tuple(dict.fromkeys(kind for function, kind in CELLS.items() if function in used))
        return cls(bool(used & _SUMS), bool(used & _SQUARES), "min" in used, "max" in used, cells)


class ColumnPartials(abc.ABC):
    """The partial aggregates of one column: one entry per tile in each sequence that is needed."""

    __slots__ = ()
    counts: Any
    minima: Any
    maxima: Any
    """Each a list or a memoryview. Typed Any, because mypy takes a slice of either for no sequence."""

    def value(self, item: AggregationSpec, start: int, stop: int) -> float | str:
        """Aggregate the tiles from ``start`` to ``stop`` (exclusive); nan if there is no value."""
        function = item.function
        if function in CELLS:
            return self._cell_value(item, start, stop)
        count: int = sum(self.counts[start:stop])
        if function == "count":
            return float(count)
        if count == 0:
            return math.nan
        if function in ("min", "max"):
            extreme: float = (
                min(self.minima[start:stop]) if function == "min" else max(self.maxima[start:stop])
            )
            return extreme
        return from_sums(function, count, *self._totals(start, stop))

    @abc.abstractmethod
    def _cell_value(self, item: AggregationSpec, start: int, stop: int) -> float | str:
        """Evaluate the cells of the function."""

    @abc.abstractmethod
    def _totals(self, start: int, stop: int) -> tuple[int, int, int]:
        """Return the sum in units of 2**-shift, that of the squares in units of 2**-2shift, and the shift."""


def from_sums(function: str, count: int, total: int, squares: int, shift: int) -> float:
    """Return the correctly rounded value of a function; see `ColumnPartials` for the units of the sums."""
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
