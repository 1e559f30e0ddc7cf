"""Counts of a window in the frozen cells of the reference.

The cells are fixed once, in training, and never follow the data: bins that are drawn again from
reference and window together let one outlier of 1e6 hide a shift. Counts are integers, so they add up
to the same whatever the order and the size of the chunks.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.drift.binning.bin_search import BinIndices, EdgeSearch, Numbers
from services.drift.binning.statistics import Counts
from streams.records import FeatureReference, FeatureValue

UNSEEN_NAMES_MAX = 1000
"""Names of unseen categories remembered in one window; beyond that they are only counted."""


Column = Sequence[FeatureValue] | npt.NDArray[Any]


class _Categories(dict[FeatureValue, int]):
    """Cells by value. Only names and None are keys: 1, 1.0 and True are equal as keys, but not as names."""

    def __init__(self, names: Iterable[str], unseen: int, missing: int) -> None:
        super().__init__({name: cell for cell, name in enumerate(names)})
        self[None] = missing
        self._unseen = unseen

    def __missing__(self, value: FeatureValue) -> int:
        return self._unseen if isinstance(value, str) else self.get(str(value), self._unseen)


class FeatureBinner:
    """Finds the cell of each value: the reference's, then unseen categories if it has any, then missing."""

    def __init__(self, reference: FeatureReference) -> None:
        """Take edges or categories."""
        self.numeric = reference.categories is None
        self.edges = np.array(reference.edges or [], dtype=np.float64)
        self.missing = len(reference.counts) + (not self.numeric)
        self.unseen = self.missing - 1
        self.categories = list(reference.categories or ())
        self._grid = EdgeSearch(self.edges)
        self._cell_of = _Categories(self.categories, self.unseen, self.missing)

    def of(self, column: Column) -> BinIndices:
        """Return the cells of a column. A value that is no number is missing in a numeric feature."""
        if self.numeric:
            values = numbers_of(column)
            cells = self._grid.cells(values)
            cells[np.isnan(values)] = self.missing
            return cells
        return np.fromiter(map(self._cell_of.__getitem__, column), dtype=np.intp, count=len(column))

    def counts_of(self, counts: Sequence[int]) -> list[int]:
        """Return counts of the reference's cells, the missing ones last, with the cell of the unseen."""
        *known, missing = counts
        return [*known, missing] if self.numeric else [*known, 0, missing]


class BinCounts:
    """Counts of one feature in its cells."""

    def __init__(
        self, reference: FeatureReference, counts: Sequence[int] = (), unseen: Iterable[tuple[str, int]] = ()
    ) -> None:
        """Start empty, or from the counts of a snapshot."""
        self.name = reference.feature
        self.design_effect = reference.design_effect
        self.importance = reference.importance
        self.places = FeatureBinner(reference)
        self.numeric = self.places.numeric
        self.edges = self.places.edges
        self.reference: Counts = np.array(
            self.places.counts_of([*reference.counts, reference.missing]), dtype=np.int64
        )
        self.counts: Counts = np.array(list(counts) or [0] * len(self.reference), dtype=np.int64)
        self.unseen = dict(unseen)

    def add(self, column: Column) -> None:
        """Count a column of values."""
        self.count(self.places.of(column), column)

    def count(self, cells: BinIndices, column: Column) -> None:
        """Count a column that was placed already."""
        self.counts += np.bincount(cells, minlength=len(self.counts))
        if self.numeric:
            return
        for row in np.flatnonzero(cells == self.places.unseen).tolist():
            name = str(column[row])
            if name in self.unseen or len(self.unseen) < UNSEEN_NAMES_MAX:
                self.unseen[name] = self.unseen.get(name, 0) + 1

    def with_counts(self, counts: Counts) -> "BinCounts":
        """Return the same cells with other counts, as of some of the rows."""
        others = copy.copy(self)
        others.counts = counts
        return others

    @property
    def unseen_total(self) -> int:
        """Values of categories that the reference does not have."""
        return 0 if self.numeric else int(self.counts[self.places.unseen])

    @property
    def out_of_range(self) -> tuple[int, int]:
        """Values below and above all of the reference's; categories have no range."""
        if not self.numeric or not len(self.edges) or self.reference[0] or self.reference[-2]:
            return 0, 0
        return int(self.counts[0]), int(self.counts[-2])


def seasonal(reference: FeatureReference, cells: BinCounts, rows: Mapping[int, int]) -> Counts:
    """Return the reference of a window with so many rows of each season: theirs, in its proportions.

    It counts for as many rows as a mixture of such samples is worth (Kish 1965). All zero if the
    reference lacks one of the seasons: then there is nothing to compare with.
    """
    if not reference.season or not rows:
        return cells.reference
    nothing = np.zeros(len(cells.reference))
    known = [
        np.array(
            cells.places.counts_of(reference.seasons.get(str(season), [0] * (len(reference.counts) + 1)))
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
    """Return a column as numbers; what is none is nan."""
    try:
        return np.ascontiguousarray(column, dtype=np.float64)  # None becomes NaN; strides miss the caches
    except (TypeError, ValueError):
        numbers = [value if isinstance(value, int | float) else None for value in column]
        return np.array(numbers, dtype=np.float64)
