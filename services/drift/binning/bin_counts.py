"""Counts of values in the frozen bins of the reference.

The bins are fixed once, in training, and never follow the data: with bins computed from reference and window
together, one outlier of 1e6 can hide a shift. Counts are integers, so their sums do not depend on the order
and the size of the chunks.
"""

import contextlib
import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.drift.binning.bin_search import BinIndices, EdgeSearch, Numbers
from services.drift.binning.statistics import Counts
from services.monitoring.value_kinds import ABOVE, BELOW, kinds_of
from streams.records import FeatureReference, FeatureValue

UNSEEN_NAMES_MAX = 1000
"""Maximum names of unseen categories kept per window; further ones are only counted."""


Column = Sequence[FeatureValue] | npt.NDArray[Any]


class _CategoryBins(dict[FeatureValue, int]):
    """Bins by value. Only names and None are keys: 1, 1.0 and True are equal as keys, but not as names."""

    def __init__(self, names: Iterable[str], unseen: int, missing: int) -> None:
        super().__init__({name: index for index, name in enumerate(names)})
        self[None] = missing
        self._unseen = unseen

    def __missing__(self, value: FeatureValue) -> int:
        return self._unseen if isinstance(value, str) else self.get(str(value), self._unseen)


class FeatureBinner:
    """Finds the bins of one feature's values.

    Bins are numbered: those of the reference, then, for categories, one for unseen ones, then one for missing
    values.
    """

    def __init__(self, reference: FeatureReference) -> None:
        """Read edges or categories from the reference."""
        self.numeric = reference.categories is None
        self.edges = np.array(reference.edges or [], dtype=np.float64)
        self.missing = len(reference.counts) + (not self.numeric)
        self.unseen = self.missing - 1
        self.categories = list(reference.categories or ())
        self._search = EdgeSearch(self.edges)
        self._category_bins = _CategoryBins(self.categories, self.unseen, self.missing)

    def bins(self, column: Column) -> BinIndices:
        """Return the bins ``(n_rows,)`` of a column; in a numeric feature, a non-number counts as missing."""
        if self.numeric:
            return self.bins_of_numbers(numbers_of(column))
        return np.fromiter(map(self._category_bins.__getitem__, column), dtype=np.intp, count=len(column))

    def bins_of_numbers(self, values: Numbers) -> BinIndices:
        """Return the bins ``(n_rows,)`` of the values of a numeric feature; nan counts as missing."""
        bins = self._search.bins(values)
        bins[np.isnan(values)] = self.missing
        return bins

    @property
    def range(self) -> tuple[float, float]:
        """The outermost edges of a numeric feature; equal if it has fewer than two."""
        return (float(self.edges[0]), float(self.edges[-1])) if len(self.edges) else (0.0, 0.0)

    def with_unseen(self, counts: Sequence[int]) -> list[int]:
        """Return counts whose last one is of missing values, with a count of 0 for unseen categories."""
        *known, missing = counts
        return [*known, missing] if self.numeric else [*known, 0, missing]


class BinCounts:
    """Counts of one feature's values in its bins."""

    def __init__(
        self, reference: FeatureReference, counts: Sequence[int] = (), unseen: Iterable[tuple[str, int]] = ()
    ) -> None:
        """Start empty, or from the counts of a snapshot."""
        self.name = reference.feature
        self.design_effect = reference.design_effect
        self.importance = reference.importance
        self.binner = FeatureBinner(reference)
        self.kinds = kinds_of(reference)
        self.numeric = self.binner.numeric
        self.edges = self.binner.edges
        self.reference: Counts = np.array(
            self.binner.with_unseen([*reference.counts, reference.missing]), dtype=np.int64
        )
        self.counts: Counts = np.array(list(counts) or [0] * len(self.reference), dtype=np.int64)
        self.unseen = dict(unseen)

    def add(self, column: Column) -> None:
        """Count a column of values."""
        self.add_binned(self.binner.bins(column), column)

    def add_binned(self, bins: BinIndices, column: Column) -> None:
        """Count a column whose bins are known."""
        self.counts += np.bincount(bins, minlength=len(self.counts))
        if self.numeric:
            return
        for row in np.flatnonzero(bins == self.binner.unseen).tolist():
            name = str(column[row])
            if name in self.unseen or len(self.unseen) < UNSEEN_NAMES_MAX:
                self.unseen[name] = self.unseen.get(name, 0) + 1

    def with_counts(self, counts: Counts) -> "BinCounts":
        """Return the same bins with other counts, e.g. those of a segment."""
        other = copy.copy(self)
        other.counts = counts
        return other

    @property
    def unseen_total(self) -> int:
        """Number of values whose category is not in the reference."""
        return 0 if self.numeric else int(self.counts[self.binner.unseen])

    def of_kind(self, name: str) -> int:
        """Return the number of values of a kind, see `services.monitoring.value_kinds`."""
        if name not in self.kinds.names:
            return 0
        return int(self.counts[self.kinds.of_bin == self.kinds.names.index(name) + 1].sum())

    @property
    def out_of_range(self) -> tuple[int, int]:
        """Number of values below and above all values of the reference; 0 for categories."""
        return self.of_kind(BELOW), self.of_kind(ABOVE)


def seasonal_counts(reference: FeatureReference, counted: BinCounts, rows: Mapping[int, int]) -> Counts:
    """Return the reference counts for a window with this number of rows in each season.

    The seasons of the reference are mixed in the window's proportions. The total is the effective size of
    such a mixture of samples (Kish, "Survey Sampling", 1965). All counts are 0 if the reference lacks one of
    the seasons: then there is nothing to compare with.
    """
    if not reference.season or not rows:
        return counted.reference
    nothing = np.zeros(len(counted.reference))
    known = [
        np.array(
            counted.binner.with_unseen(reference.seasons.get(str(season), [0] * (len(reference.counts) + 1)))
        )
        for season in rows
    ]
    sizes = np.array([counts.sum() for counts in known], dtype=np.float64)
    if not sizes.all():
        return nothing
    weights = np.array(list(rows.values())) / sum(rows.values())
    shares = (weights / sizes) @ np.stack(known)
    mixed: Counts = shares / (weights**2 / sizes).sum()
    return mixed


def numbers_of(column: Column) -> Numbers:
    """Return a column as numbers; a value that is not a number becomes nan.

    A text that writes a number counts as that number, whatever the other values of the column are.
    """
    try:
        return np.ascontiguousarray(column, dtype=np.float64)  # None becomes NaN; strides miss the caches
    except (TypeError, ValueError, OverflowError):
        return np.array([_number(value) for value in column], dtype=np.float64)


def _number(value: object) -> float:
    if isinstance(value, int | float | str):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)
    return math.nan
