"""Rank correlations of features, from sums of rank scores and of their products. Pure.

The rank score of a value is its centred rank in the reference, as a small integer. Sums of scores and of
their products are integers, too, so they are exact: they can be added and subtracted in any order with the
same result, bit by bit, on every processor.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from services.monitoring.seasons import seasons_of
from streams.records import FeatureReference, PairReference

FEATURES_MAX = 64
"""Maximum features whose pairs are compared, the first ones of a model: 64 features have 2,016 pairs."""
SCORE_MAX = 100
"""Score of the highest rank: fits into a byte, and floats hold the squared products of 10,000 rows
exactly."""
ROWS_AT_ONCE = 10_000
"""Rows summed as floats before they are added to the integers; see `SCORE_MAX`."""

Scores = npt.NDArray[np.int8]
BinIndices = npt.NDArray[np.intp]
Sums = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


class RankScorer:
    """Returns the rank scores of one feature's values, from their bins."""

    def __init__(self, reference: FeatureReference) -> None:
        """Compute the score of each bin from the reference's counts, by season if it has seasons."""
        self._parts = reference.season
        known = {int(season): counts[:-1] for season, counts in reference.seasons.items()}
        self._tables = {
            season: _scores(counts) for season, counts in (known or {0: reference.counts}).items()
        }
        self._unknown = np.zeros(len(reference.counts) + 2, dtype=np.int8)

    def scores(self, bins: BinIndices, times_ms: npt.NDArray[np.int64]) -> Scores:
        """Return the scores ``(n_rows,)`` of values in these bins.

        Bins are numbered as the counts; the bins of new and of missing values follow. New and missing values,
        and those of a season that the reference lacks, have score 0, the middle rank.
        """
        seasons = seasons_of(times_ms, self._parts)
        if not self._parts:
            return self._tables[0][bins]
        scores = np.zeros(len(bins), dtype=np.int8)
        for season in np.unique(seasons).tolist():
            rows = seasons == season
            scores[rows] = self._tables.get(season, self._unknown)[bins[rows]]
        return scores


def _scores(counts: Sequence[int]) -> Scores:
    """Return the score of each bin, the middle of its ranks; categories are ordered by name."""
    known = np.array(counts, dtype=np.float64)
    middles = (np.cumsum(known) - known / 2) / max(known.sum(), 1.0)
    scores = np.rint((2 * middles - 1) * SCORE_MAX).astype(np.int8)
    return np.append(scores, np.zeros(2, dtype=np.int8))


@dataclasses.dataclass
class Moments:
    """Sums over rows of scores ``(n_features,)``, of their products, and of the squared products."""

    rows: int
    sums: Sums
    products: Sums
    squares: Sums

    @classmethod
    def none(cls, features: int) -> Self:
        """Return the moments of no rows."""
        pairs = (features, features)
        return cls(0, *(np.zeros(shape, dtype=np.int64) for shape in ((features,), pairs, pairs)))

    @classmethod
    def of_reference(cls, reference: PairReference) -> Self:
        """Return the moments that a reference holds."""
        features = len(reference.sums)
        upper = np.triu_indices(features)
        found = cls.none(features)
        found.rows, found.sums = reference.rows, np.array(reference.sums, dtype=np.int64)
        for table, values in ((found.products, reference.products), (found.squares, reference.squares)):
            table[upper] = values
            table.T[upper] = values
        return found

    def reference(self) -> PairReference:
        """Return the record that `of_reference` reads."""
        upper = np.triu_indices(len(self.sums))
        return PairReference(
            rows=self.rows,
            sums=self.sums.tolist(),
            products=self.products[upper].tolist(),
            squares=self.squares[upper].tolist(),
        )

    def copy(self) -> Self:
        """Return an independent copy."""
        return type(self)(self.rows, self.sums.copy(), self.products.copy(), self.squares.copy())

    def add(self, scores: Scores) -> None:
        """Add rows of scores ``(n_rows, n_features)``."""
        for start in range(0, len(scores), ROWS_AT_ONCE):
            chunk = scores[start : start + ROWS_AT_ONCE].astype(np.float64)
            self.rows += len(chunk)
            self.sums += chunk.sum(axis=0).astype(np.int64)
            self.products += (chunk.T @ chunk).astype(np.int64)
            chunk *= chunk
            self.squares += (chunk.T @ chunk).astype(np.int64)

    def merge(self, other: "Moments") -> None:
        """Add the rows of other moments."""
        self.rows += other.rows
        self.sums += other.sums
        self.products += other.products
        self.squares += other.squares

    def covariances(self) -> Numbers:
        """Return the covariances of all pairs, ``(n_features, n_features)``; 0 without rows."""
        rows = max(self.rows, 1)
        means = self.sums / rows
        found: Numbers = self.products / rows - np.outer(means, means)
        return found

    def product_variances(self) -> Numbers:
        """Return the variances of the products over the rows, ``(n_features, n_features)``."""
        rows = max(self.rows, 1)
        found: Numbers = np.maximum(self.squares / rows - (self.products / rows) ** 2, 0.0)
        return found


def correlations(covariances: Numbers, deviations: Numbers) -> Numbers:
    """Return covariances divided by standard deviations ``(n_features,)``; 0 for a constant feature."""
    scale = np.outer(deviations, deviations)
    return np.divide(covariances, scale, out=np.zeros_like(scale), where=scale > 0)
