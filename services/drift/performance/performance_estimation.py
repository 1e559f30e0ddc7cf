"""How good answers will turn out to be, before their labels come: from their scores alone. Pure.

In each cell of scores, the mean of a measure over labelled answers is what an answer with such a score is
worth. The estimate of a window is the mean of that over its scores. For a binary model this is
confidence-based performance estimation (CBPE, as NannyML has it) with scores calibrated by bins: in a cell
whose share of positives is p, an answer of 1 is right with probability p, and so on for every measure. For
a regression it is a model of the error that depends on the prediction alone.

It is right as long as answers of the same score turn out as they did before. Drift that keeps this (other
requests, of known kinds) is estimated; drift that breaks it (the same requests end otherwise) is not. So
every estimate is compared with the labels once they are there, and is trusted by how that went.
"""

import bisect
import collections
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

SCORES_FIRST = 1000
"""Where no reference has edges for the scores, they are the quantiles of so many first ones."""
CELLS_MAX = 32
"""Edges made of first scores."""
POOL_LABELS_MIN = 50
"""Neighbouring cells are taken together until they have so many labels."""
LABELS_MAX = 1_000_000
"""Beyond this all sums are halved, so that scores that change their meaning are noticed."""
BLOCKS_MIN = 2
BLOCKS_MAX = 4
"""Of cohorts, by which estimates are judged."""
LABELS, POSITIVES, MEASURES = 0, 1, 2
"""Columns of the sums in each cell: the sums of the measures from the third on."""


class PerformanceEstimatorState(msgspec.Struct, array_like=True):
    """All that a `PerformanceEstimator` knows."""

    edges: list[float] = []
    first: list[float] = []
    sums: list[list[float]] = []


class PerformanceEstimator:
    """What labelled answers were worth, by cell of their score."""

    def __init__(self, measures: int, state: PerformanceEstimatorState | None = None) -> None:
        """Start without edges, or from a state: `follow` gives those of a reference."""
        state = state or PerformanceEstimatorState()
        self._measures = measures
        self._first = list(state.first)
        self.edges = list(state.edges)
        self.sums: Numbers = np.zeros((0, MEASURES + measures))
        self._begin(self.edges)
        if state.sums:
            self.sums = np.array(state.sums, dtype=np.float64)

    def follow(self, edges: Sequence[float], sums: Sequence[Sequence[float]] = ()) -> None:
        """Begin with a reference's edges, and with how its held-out scores turned out where it tells."""
        self._first = []
        self._begin(edges)
        held_out = np.array(sums, dtype=np.float64)
        if held_out.shape == self.sums.shape:
            self.sums = held_out

    @property
    def cells(self) -> int:
        """How many there are; 0 before there are edges."""
        return len(self.sums)

    def cell_of(self, score: float) -> int:
        """Return the cell of a score."""
        return bisect.bisect_right(self.edges, score)

    def add_first(self, score: float) -> None:
        """Take a score that has no cell yet; of enough of them edges are made."""
        self._first.append(score)
        if len(self._first) >= SCORES_FIRST:
            shares = np.linspace(0, 1, CELLS_MAX + 1)[1:-1]
            self._begin(np.unique(np.quantile(self._first, shares, method="inverted_cdf")).tolist())
            self._first = []

    def learn(self, sums: Numbers) -> None:
        """Take the sums of a cohort whose labels are there."""
        self.sums += sums
        while self.sums[:, LABELS].sum() > LABELS_MAX:
            self.sums /= 2

    def estimate(self, counts: Counts) -> list[float] | None:
        """Return the expected mean of each measure for answers with so many scores a cell ``(n_cells,)``.

        None without answers, or while too little is known.
        """
        if not counts.sum() or not (means := self._means()).size:
            return None
        return (counts @ means[:, MEASURES:] / counts.sum()).tolist()  # type: ignore[no-any-return]

    def estimate_auc(self, counts: Counts) -> float | None:
        """Return the expected area under the ROC curve, ties within a cell counting half."""
        if not counts.sum() or not (means := self._means()).size:
            return None
        return auc(counts.astype(np.float64), counts * means[:, POSITIVES])

    def state(self) -> PerformanceEstimatorState:
        """Return what `__init__` takes."""
        return PerformanceEstimatorState(self.edges, self._first, self.sums.tolist())

    def _begin(self, edges: Sequence[float]) -> None:
        self.edges = list(edges)
        self.sums = np.zeros((len(self.edges) + 1 if self.edges else 0, MEASURES + self._measures))

    def _means(self) -> Numbers:
        """Return the means ``(n_cells, n_columns)`` by label; empty while there are too few."""
        if self.sums[:, LABELS].sum() < POOL_LABELS_MIN:
            return np.zeros((0, 0))
        pools = pools_of(self.sums[:, LABELS])
        pooled = np.zeros((pools[-1] + 1, self.sums.shape[1]))
        np.add.at(pooled, pools, self.sums)
        means: Numbers = (pooled / pooled[:, [LABELS]])[pools]
        return means


def pools_of(labels: Numbers) -> npt.NDArray[np.intp]:
    """Return the pool of each cell (n,): neighbours with `POOL_LABELS_MIN` labels, the rest in the last."""
    pools, pool, held = np.zeros(len(labels), dtype=np.intp), 0, 0.0
    for cell, found in enumerate(labels.tolist()):
        pools[cell] = pool
        held += found
        if held >= POOL_LABELS_MIN:
            pool, held = pool + 1, 0.0
    return np.minimum(pools, max(pool - 1, 0))


def auc(labels: Numbers, positives: Numbers) -> float | None:
    """Return the area under the ROC curve of cells (n,) of rising scores; None if only one class occurs."""
    negatives = labels - positives
    pairs = positives.sum() * negatives.sum()
    if pairs <= 0:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / pairs)


class EstimateTrackerState(msgspec.Struct, array_like=True):
    """All that a `EstimateTracker` knows."""

    estimates: list[tuple[int, int, float]] = []
    """Of the latest cohorts: when they began, predictions, and the estimate."""
    gaps: list[tuple[int, float]] = []
    """Of the latest mature ones: labels, and realised minus estimated."""


class EstimateTracker:
    """Estimates of late, and how far earlier ones were from what came."""

    def __init__(self, windows: int, state: EstimateTrackerState | None = None) -> None:
        """Judge by blocks of so many cohorts."""
        self._windows = windows
        state = state or EstimateTrackerState()
        self._estimates = collections.deque(state.estimates, maxlen=windows)
        self._gaps = collections.deque(state.gaps, maxlen=BLOCKS_MAX * windows)

    def add_estimate(self, start_ms: int, predictions: int, estimate: float) -> None:
        """Take the estimate of a cohort."""
        self._estimates.append((start_ms, predictions, estimate))

    def add_gap(self, labels: int, gap: float) -> None:
        """Take how far the estimate of a mature cohort was off."""
        self._gaps.append((labels, gap))

    @property
    def recent(self) -> float | None:
        """The mean estimate over the latest cohorts; None while there are too few."""
        if len(self._estimates) < self._windows:
            return None
        total = sum(predictions for _, predictions, _ in self._estimates)
        return sum(predictions * estimate for _, predictions, estimate in self._estimates) / total

    @property
    def recent_start_ms(self) -> int:
        """When the first of the cohorts that `recent` looks at began."""
        return self._estimates[0][0]

    @property
    def error(self) -> float | None:
        """The largest mean gap of a block of cohorts of late; None while there are too few."""
        gaps = list(self._gaps)
        blocks = [
            gaps[end - self._windows : end] for end in range(len(gaps), self._windows - 1, -self._windows)
        ]
        if len(blocks) < BLOCKS_MIN:
            return None
        return max(
            abs(sum(labels * gap for labels, gap in block)) / sum(labels for labels, _ in block)
            for block in blocks
        )

    def state(self) -> EstimateTrackerState:
        """Return what `__init__` takes."""
        return EstimateTrackerState(list(self._estimates), list(self._gaps))
