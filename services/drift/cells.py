"""Counts of a window in the frozen cells of the reference.

The cells are fixed once, in training, and never follow the data: bins that are drawn again from
reference and window together let one outlier of 1e6 hide a shift. Counts are integers, so they add up
to the same whatever the order and the size of the chunks.
"""

import collections
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from services.drift.statistics import Counts
from streams.records import FeatureReference, FeatureValue

UNSEEN_NAMES_MAX = 1000
"""Names of unseen categories remembered in one window; beyond that they are only counted."""


class FeatureCells:
    """Counts of one feature: the reference's cells, then unseen categories if it has any, then missing."""

    def __init__(
        self, reference: FeatureReference, counts: Sequence[int] = (), unseen: Iterable[tuple[str, int]] = ()
    ) -> None:
        """Start empty, or from the counts of a snapshot."""
        self.name = reference.feature
        self.numeric = reference.categories is None
        extra = [] if self.numeric else [0]
        self.reference: Counts = np.array([*reference.counts, *extra, reference.missing], dtype=np.int64)
        self.counts: Counts = np.array(list(counts) or [0] * len(self.reference), dtype=np.int64)
        self.unseen = dict(unseen)
        self.edges = np.array(reference.edges or [], dtype=np.float64)
        self._cell_of = {name: cell for cell, name in enumerate(reference.categories or ())}

    def add(self, column: Sequence[FeatureValue]) -> None:
        """Count a column of values. A value that is no number counts as missing in a numeric feature."""
        if self.numeric:
            self._add_numbers(column)
        else:
            self._add_categories(column)

    @property
    def ordered_counts(self) -> tuple[Counts, Counts]:
        """Reference and window without the missing values: the bins in their order."""
        return self.reference[:-1], self.counts[:-1]

    @property
    def missing_counts(self) -> tuple[Counts, Counts]:
        """Reference and window as present and missing."""
        return _present_and_missing(self.reference), _present_and_missing(self.counts)

    @property
    def unseen_total(self) -> int:
        """Values of categories that the reference does not have."""
        return 0 if self.numeric else int(self.counts[-2])

    @property
    def out_of_range(self) -> tuple[int, int]:
        """Values below and above all of the reference's; categories have no range."""
        if not self.numeric or not len(self.edges) or self.reference[0] or self.reference[-2]:
            return 0, 0
        return int(self.counts[0]), int(self.counts[-2])

    def _add_numbers(self, column: Sequence[FeatureValue]) -> None:
        values = _numbers(column)
        present = values[~np.isnan(values)]
        bins = np.searchsorted(self.edges, present, side="right")  # edges[i-1] <= x < edges[i]
        self.counts[:-1] += np.bincount(bins, minlength=len(self.counts) - 1)
        self.counts[-1] += len(values) - len(present)

    def _add_categories(self, column: Sequence[FeatureValue]) -> None:
        for value, count in collections.Counter(column).items():
            if value is None:
                self.counts[-1] += count
                continue
            name = str(value)
            cell = self._cell_of.get(name)
            if cell is not None:
                self.counts[cell] += count
                continue
            self.counts[-2] += count
            if name in self.unseen or len(self.unseen) < UNSEEN_NAMES_MAX:
                self.unseen[name] = self.unseen.get(name, 0) + count


def _numbers(column: Sequence[FeatureValue]) -> npt.NDArray[np.float64]:
    try:
        return np.array(column, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError):
        numbers = [value if isinstance(value, int | float) else None for value in column]
        return np.array(numbers, dtype=np.float64)


def _present_and_missing(counts: Counts) -> Counts:
    return np.array([counts[:-1].sum(), counts[-1]], dtype=np.int64)
