"""Performance estimated from the scores alone, before the labels come. Pure.

In each cell of scores, the mean of a measure over labelled predictions is the value expected of a prediction
with such a score. The estimate of a window is the mean of these over its scores. For a binary model this is
confidence-based performance estimation (CBPE, as in NannyML) with scores calibrated by bins: in a cell whose
share of positives is p, a prediction of 1 is correct with probability p, and likewise for every measure. For
a regression it is a model of the error that depends on the prediction alone.

The estimate is correct while predictions with the same score have the same outcomes as before. Covariate
drift (other requests, of known kinds) keeps this; concept drift (the same requests have other outcomes) does
not. So every estimate is compared with the labels once they have come, and later estimates are trusted only
as far as earlier ones were correct.
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
"""Number of first scores whose quantiles become the edges, if no reference has edges for the scores."""
CELLS_MAX = 32
"""Maximum cells made from the first scores."""
POOL_LABELS_MIN = 50
"""Minimum labels per pool: neighbouring cells are pooled until they have this many."""
LABELS_MAX = 1_000_000
"""Maximum labels in the sums; beyond it they are halved, so that they follow a change of calibration."""
BLOCKS_MIN = 2
"""Minimum blocks of cohorts from which the error of the estimates is known."""
BLOCKS_MAX = 4
"""Maximum blocks of cohorts that are remembered."""
OUTSIDE_MAX = 0.05
"""Maximum share of scores outside those with known results, with which an estimate alone may request a
retraining."""
CELL_LABELS_MIN = 5
"""Minimum labels of a cell with known results; it also needs a tenth of the mean over the cells."""
LABELS, POSITIVES, MEASURES = 0, 1, 2
"""Columns of the sums in each cell; the measures begin at the third."""


class PerformanceEstimatorState(msgspec.Struct, array_like=True):
    """All that a `PerformanceEstimator` knows."""

    edges: list[float] = []
    first: list[float] = []
    sums: list[list[float]] = []


class PerformanceEstimator:
    """The mean of each measure over labelled predictions, by cell of their score.

    >>> estimator = PerformanceEstimator(measures=1)  # the accuracy
    >>> estimator.follow(edges=[0.5], sums=[[100, 10, 90], [100, 70, 70]])  # labels, positives, correct
    >>> estimator.estimate(np.array([30, 10]))  # 30 predictions with scores below 0.5, 10 above
    [0.85]
    """

    def __init__(self, measures: int, state: PerformanceEstimatorState | None = None) -> None:
        """Start without edges, or from a state; `follow` sets the edges of a reference."""
        state = state or PerformanceEstimatorState()
        self._measures = measures
        self._first = list(state.first)
        self.edges = list(state.edges)
        self.sums: Numbers = np.zeros((0, MEASURES + measures))
        self._reset(self.edges)
        if state.sums:
            self.sums = np.array(state.sums, dtype=np.float64)

    def follow(self, edges: Sequence[float], sums: Sequence[Sequence[float]] = ()) -> None:
        """Start with the edges of a reference, and with the sums of its held-out scores if it has them."""
        self._first = []
        self._reset(edges)
        held_out = np.array(sums, dtype=np.float64)
        if held_out.shape == self.sums.shape:
            self.sums = held_out

    @property
    def cells(self) -> int:
        """Number of cells; 0 before there are edges."""
        return len(self.sums)

    def cell_of(self, score: float) -> int:
        """Return the cell of a score."""
        return bisect.bisect_right(self.edges, score)

    def add_first(self, score: float) -> None:
        """Add a score while there are no edges; enough of them make the edges."""
        self._first.append(score)
        if len(self._first) >= SCORES_FIRST:
            shares = np.linspace(0, 1, CELLS_MAX + 1)[1:-1]
            self._reset(np.unique(np.quantile(self._first, shares, method="inverted_cdf")).tolist())
            self._first = []

    def learn(self, sums: Numbers) -> None:
        """Add the sums ``(n_cells, n_columns)`` of labels that have come."""
        self.sums += sums
        while self.sums[:, LABELS].sum() > LABELS_MAX:
            self.sums /= 2

    def estimate(self, counts: Counts) -> list[float] | None:
        """Return the expected mean of each measure for predictions with these counts by cell ``(n_cells,)``.

        None without predictions, or while fewer than `POOL_LABELS_MIN` labels are known.
        """
        if not counts.sum() or not (means := self._means()).size:
            return None
        expected: list[float] = (counts @ means[:, MEASURES:] / counts.sum()).tolist()
        return expected

    def estimate_positives(self, counts: Counts) -> float | None:
        """Return the expected share of labels of 1."""
        if not counts.sum() or not (means := self._means()).size:
            return None
        return float(counts @ means[:, POSITIVES] / counts.sum())

    def estimate_auc(self, counts: Counts) -> float | None:
        """Return the expected area under the ROC curve; ties within a cell count half."""
        if not counts.sum() or not (means := self._means()).size:
            return None
        return auc(counts.astype(np.float64), counts * means[:, POSITIVES])

    def outside_share(self, counts: Counts) -> float:
        """Return the share of scores in cells with hardly any known results, by counts ``(n_cells,)``.

        Their estimate is that of the nearest cells with results: outside the reference it may be far off.
        """
        labels = self.sums[:, LABELS]
        if not counts.sum():
            return 0.0
        few = labels < min(CELL_LABELS_MIN, labels.sum() / (10 * len(labels)))
        return float(counts[few].sum() / counts.sum())

    def state(self) -> PerformanceEstimatorState:
        """Return what `__init__` takes."""
        return PerformanceEstimatorState(self.edges, self._first, self.sums.tolist())

    def _reset(self, edges: Sequence[float]) -> None:
        self.edges = list(edges)
        self.sums = np.zeros((len(self.edges) + 1 if self.edges else 0, MEASURES + self._measures))

    def _means(self) -> Numbers:
        """Return the means ``(n_cells, n_columns)`` over labels; empty while there are too few."""
        if self.sums[:, LABELS].sum() < POOL_LABELS_MIN:
            return np.zeros((0, 0))
        pools = pools_of(self.sums[:, LABELS])
        pooled = np.zeros((pools[-1] + 1, self.sums.shape[1]))
        np.add.at(pooled, pools, self.sums)
        means: Numbers = (pooled / pooled[:, [LABELS]])[pools]
        return means


def pools_of(labels: Numbers) -> npt.NDArray[np.intp]:
    """Return the pool of each cell ``(n_cells,)``.

    A pool has at least `POOL_LABELS_MIN` labels; the cells that remain join the last one.
    """
    pools, pool, pooled = np.zeros(len(labels), dtype=np.intp), 0, 0.0
    for cell, found in enumerate(labels.tolist()):
        pools[cell] = pool
        pooled += found
        if pooled >= POOL_LABELS_MIN:
            pool, pooled = pool + 1, 0.0
    return np.minimum(pools, max(pool - 1, 0))


def auc(labels: Numbers, positives: Numbers) -> float | None:
    """Return the area under the ROC curve from counts by cell ``(n_cells,)`` of rising scores.

    None if only one class occurs.
    """
    negatives = labels - positives
    pairs = positives.sum() * negatives.sum()
    if pairs <= 0:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / pairs)


class EstimateTrackerState(msgspec.Struct, array_like=True):
    """All that a `EstimateTracker` knows."""

    estimates: list[tuple[int, int, float]] = []
    """Latest cohorts: start in ms, number of predictions, and the estimate."""
    gaps: list[tuple[int, float]] = []
    """Latest mature cohorts: number of labels, and realised minus estimated."""
    outside: list[float] = []
    """Shares of the scores of the latest cohorts in ranges of scores without known results."""


class EstimateTracker:
    """Recent estimates, and how far earlier ones were from the realised performance."""

    def __init__(self, windows: int, reach_ms: int, state: EstimateTrackerState | None = None) -> None:
        """Compare blocks of ``windows`` cohorts; recent ones began within ``reach_ms`` of each other."""
        self._windows = windows
        self._reach_ms = reach_ms
        state = state or EstimateTrackerState()
        self._estimates = collections.deque(state.estimates, maxlen=windows)
        self._outside = collections.deque(state.outside, maxlen=windows)
        self._gaps = collections.deque(state.gaps, maxlen=BLOCKS_MAX * windows)

    def add_estimate(self, start_ms: int, predictions: int, estimate: float, outside: float = 0.0) -> None:
        """Add the estimate of a cohort, and the share of its scores outside those with known results."""
        self._estimates.append((start_ms, predictions, estimate))
        self._outside.append(outside)

    def add_gap(self, labels: int, gap: float) -> None:
        """Add the gap of a mature cohort: realised minus estimated."""
        self._gaps.append((labels, gap))

    @property
    def recent(self) -> float | None:
        """Mean estimate over the latest cohorts; None while these are too few or reach back too far."""
        if len(self._estimates) < self._windows:
            return None
        if self._estimates[-1][0] - self._estimates[0][0] > self._reach_ms:
            return None
        total = sum(predictions for _, predictions, _ in self._estimates)
        return sum(predictions * estimate for _, predictions, estimate in self._estimates) / total

    @property
    def outside(self) -> float:
        """Share of the scores that `recent` covers in ranges of scores without known results."""
        found = list(self._estimates)[-len(self._outside) :] if self._outside else []
        total = sum(predictions for _, predictions, _ in found)
        if not total:
            return 0.0
        return (
            sum(
                predictions * outside
                for (_, predictions, _), outside in zip(found, self._outside, strict=True)
            )
            / total
        )

    @property
    def recent_start_ms(self) -> int:
        """Start of the first cohort that `recent` covers."""
        return self._estimates[0][0]

    @property
    def error(self) -> float | None:
        """Largest absolute mean gap of a recent block of cohorts; None while there are too few blocks."""
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
        return EstimateTrackerState(list(self._estimates), list(self._gaps), list(self._outside))
