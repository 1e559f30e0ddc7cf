"""How features go together: sums of products of scores by rank. Pure.

A value's score is its rank among the reference, centred, as a small whole number. Sums of scores and of their
products are whole numbers too, so they are exact: they merge, and can be taken apart, in any order and
with equal bits, on whatever processor.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from services.monitoring.seasons import seasons_of
from streams.records import FeatureReference, PairReference

FEATURES_MAX = 64
"""Of a model with more, the first ones are looked at: they have 2,016 pairs."""
SCORE_MAX = 100
"""At the outermost rank: fits into a byte. Squares of products of 10,000 rows sum up exactly in floats."""
ROWS_AT_ONCE = 10_000

Scores = npt.NDArray[np.int8]
BinIndices = npt.NDArray[np.intp]
Sums = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


class RankScorer:
    """Gives each value of one feature its score, from its cell."""

    def __init__(self, reference: FeatureReference) -> None:
        """Take the counts, by season if it has any."""
        self._parts = reference.season
        known = {int(season): counts[:-1] for season, counts in reference.seasons.items()}
        self._tables = {
            season: _scores(counts) for season, counts in (known or {0: reference.counts}).items()
        }
        self._unknown = np.zeros(len(reference.counts) + 2, dtype=np.int8)

    def of(self, cells: BinIndices, times_ms: npt.NDArray[np.int64]) -> Scores:
        """Return the scores ``(n_rows,)`` of cells, numbered as the counts, new and missing ones behind.

        What is new or missing stands in the middle, and so does what is of a season that the reference lacks.
        """
        seasons = seasons_of(times_ms, self._parts)
        if not self._parts:
            return self._tables[0][cells]
        scores = np.zeros(len(cells), dtype=np.int8)
        for season in np.unique(seasons).tolist():
            rows = seasons == season
            scores[rows] = self._tables.get(season, self._unknown)[cells[rows]]
        return scores


def _scores(counts: Sequence[int]) -> Scores:
    """Score each cell by the middle of the ranks in it; categories stand in the order of their names."""
    known = np.array(counts, dtype=np.float64)
    middles = (np.cumsum(known) - known / 2) / max(known.sum(), 1.0)
    scores = np.rint((2 * middles - 1) * SCORE_MAX).astype(np.int8)
    return np.append(scores, np.zeros(2, dtype=np.int8))


@dataclasses.dataclass
class Moments:
    """Sums over rows of scores ``(n_features,)``, of their products and of the squares of those."""

    rows: int
    sums: Sums
    products: Sums
    squares: Sums

    @classmethod
    def none(cls, features: int) -> Self:
        """Return those of no rows."""
        pairs = (features, features)
        return cls(0, *(np.zeros(shape, dtype=np.int64) for shape in ((features,), pairs, pairs)))

    @classmethod
    def of_reference(cls, reference: PairReference) -> Self:
        """Read those of the reference."""
        features = len(reference.sums)
        upper = np.triu_indices(features)
        found = cls.none(features)
        found.rows, found.sums = reference.rows, np.array(reference.sums, dtype=np.int64)
        for table, values in ((found.products, reference.products), (found.squares, reference.squares)):
            table[upper] = values
            table.T[upper] = values
        return found

    def reference(self) -> PairReference:
        """Return what `of_reference` reads."""
        upper = np.triu_indices(len(self.sums))
        return PairReference(
            rows=self.rows,
            sums=self.sums.tolist(),
            products=self.products[upper].tolist(),
            squares=self.squares[upper].tolist(),
        )

    def copy(self) -> Self:
        """Return sums of their own."""
        return type(self)(self.rows, self.sums.copy(), self.products.copy(), self.squares.copy())

    def add(self, scores: Scores) -> None:
        """Take scores ``(n_rows, n_features)``."""
        for start in range(0, len(scores), ROWS_AT_ONCE):
            some = scores[start : start + ROWS_AT_ONCE].astype(np.float64)
            self.rows += len(some)
            self.sums += some.sum(axis=0).astype(np.int64)
            self.products += (some.T @ some).astype(np.int64)
            some *= some
            self.squares += (some.T @ some).astype(np.int64)

    def merge(self, other: "Moments") -> None:
        """Take the rows of another."""
        self.rows += other.rows
        self.sums += other.sums
        self.products += other.products
        self.squares += other.squares

    def covariances(self) -> Numbers:
        """Return them for all pairs, ``(n_features, n_features)``; 0 without rows."""
        rows = max(self.rows, 1)
        means = self.sums / rows
        found: Numbers = self.products / rows - np.outer(means, means)
        return found

    def product_variances(self) -> Numbers:
        """Return by how much products vary from row to row, for all pairs."""
        rows = max(self.rows, 1)
        found: Numbers = np.maximum(self.squares / rows - (self.products / rows) ** 2, 0.0)
        return found


def correlations(covariances: Numbers, deviations: Numbers) -> Numbers:
    """Return covariances by standard deviations ``(n_features,)``; 0 for a feature that does not vary."""
    scale = np.outer(deviations, deviations)
    return np.divide(covariances, scale, out=np.zeros_like(scale), where=scale > 0)
