"""Evidence that the mean loss is above its limit, from the sums of cohorts of labelled predictions. Pure.

For a loss x in [0, 1], a limit m in (0, 1), a weight w in [0, W] and a stake s in (0, 1), let
``y = w (x - m) / (W m)``, which is at least -1. Then

    exp(s y - psi(s) y^2) <= 1 + s y,    psi(s) = -log(1 - s) - s

(Fan, Grama and Liu 2015), so the left side is a fair bet, or worse, while the expected weighted loss, given
the past, is at most the limit (Podkopaev and Ramdas, arXiv 2110.06177). The product over a cohort needs only
its sums: it is the same in any order. Bets on one cohort after another form a Shiryaev-Roberts process

    M <- (M + elapsed) L

as in `services.drift.detectors.e_detector`: the mean time until M reaches A, while there is no harm, is at
least A, and harm that begins late is found as fast as harm that begins early. Losses of one block are alike,
so winnings are raised to the power 1 / D, the inverse of their design effect.

The evidence is a function of the remembered cohorts alone. So it needs no further state, holds for any
limit, and tells for which larger limits the losses are still too high: a lower bound of the mean loss.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

STAKES = 0.02 * 2.0 ** np.arange(4)
"""Stakes on the excess over the limit. The best stake is the excess times the limit over the variance: for
log losses near 0.5, these are the best for an excess of 0.01 to 0.15. Larger ones find no harm sooner: an
excess above 0.15 is found with the first cohort that has 100 labels."""
RARE_LIMIT = 0.1
"""Below this limit (a log loss of 0.4), stakes shrink with it. Where most losses are near 0 and few are
large, as of a rare class, the variance is about as large as the mean: the best stake is about the limit."""
COHORTS_MAX = 400
"""Maximum cohorts remembered; at the limit, older ones are merged in pairs."""
REACH_MS = 400 * 24 * 3_600_000
"""Cohorts older than this are forgotten: evidence is about the last 13 months at most."""
GAP_MS_MAX = 24 * 3_600_000
"""Maximum time added for one cohort without longer ones, so that a silent year is no evidence."""
LOW_ALPHA = 0.05
"""The lower end of the mean loss is wrong at any time of the reach with at most this probability."""
LOW_STEPS = 64
"""Limits that are tried for the lower end."""
LIMIT_MIN = 1e-9
_LOG_MAX = 600.0
"""Log factors are cut here: a stake has crossed any threshold long before."""

Numbers = npt.NDArray[np.float64]


class CohortLosses(msgspec.Struct, array_like=True, frozen=True):
    """The losses of one cohort, as shares of their range; sums over labels with weights w and losses x."""

    start_ms: int
    end_ms: int
    labels: int
    weights: float
    """Sum of w."""
    losses: float
    """Sum of w x."""
    weight_squares: float
    """Sum of w^2."""
    products: float
    """Sum of w^2 x."""
    loss_squares: float
    """Sum of w^2 x^2."""
    weight_max: float = 1.0
    """Upper bound of the weights."""

    def merged(self, later: "CohortLosses") -> "CohortLosses":
        """Return the losses of this cohort and a later one as those of one cohort."""
        return CohortLosses(
            min(self.start_ms, later.start_ms),
            max(self.end_ms, later.end_ms),
            self.labels + later.labels,
            self.weights + later.weights,
            self.losses + later.losses,
            self.weight_squares + later.weight_squares,
            self.products + later.products,
            self.loss_squares + later.loss_squares,
            max(self.weight_max, later.weight_max),
        )


class Harm(NamedTuple):
    """A mean loss that is above its limit, as a share of the range."""

    since_ms: int
    """Start of the cohort with which the harm probably began."""
    since_from_ms: int
    since_to_ms: int
    """The harm began between ``since_from_ms`` and this time in nine cases of ten."""
    labels: int
    """Labels of the cohorts since then."""
    mean: float
    """Mean loss of these cohorts."""
    low: float
    """The mean loss exceeded this at some time, with a confidence of 95 %; at least the limit."""


class HarmEvidence:
    """The losses of cohorts, one after another, and the evidence in them that their mean is too high."""

    def __init__(
        self, threshold_ms: float, design_effect: float, cohorts: Iterable[CohortLosses] = ()
    ) -> None:
        """Start without losses, or from those of a state.

        Args:
            threshold_ms: Minimum mean time between two false alarms.
            design_effect: How many losses of a block count as one, at least 1.
            cohorts: See `cohorts`.
        """
        self._threshold_ms = threshold_ms
        self._power = 1 / max(design_effect, 1.0)
        self.cohorts = list(cohorts)
        """The remembered cohorts, in the order in which they were added."""

    def add(self, cohort: CohortLosses) -> None:
        """Add the losses of a cohort; forget or merge old ones."""
        self.cohorts = [each for each in self.cohorts if each.end_ms > cohort.end_ms - REACH_MS]
        if len(self.cohorts) >= COHORTS_MAX:
            old, new = self.cohorts[: COHORTS_MAX // 2], self.cohorts[COHORTS_MAX // 2 :]
            self.cohorts = [one.merged(two) for one, two in zip(old[::2], old[1::2], strict=True)] + new
        self.cohorts.append(cohort)

    def revise(self, cohort: CohortLosses) -> None:
        """Replace the losses of a cohort, unless they were forgotten or merged with others."""
        for index, each in enumerate(self.cohorts):
            if (each.start_ms, each.end_ms) == (cohort.start_ms, cohort.end_ms):
                self.cohorts[index] = cohort

    def strength(self, limit: float) -> float:
        """Return the evidence that the mean is above a limit, as a multiple of its threshold.

        Each stake is cut where it alone reaches the threshold, so that evidence of harm that is over does not
        last.
        """
        if not self.cohorts:
            return 0.0
        factors = np.exp(np.minimum(self._log_won(limit), _LOG_MAX))
        stakes, ceiling = np.zeros(len(STAKES)), self._threshold_ms * len(STAKES)
        for elapsed_ms, factor in zip(self._elapsed_ms().tolist(), factors, strict=True):
            stakes = np.minimum((stakes + elapsed_ms) * factor, ceiling)
        return float(stakes.mean() / self._threshold_ms)

    def harm(self, limit: float) -> Harm:
        """Describe the harm that the evidence shows; there must be a cohort."""
        log_won = self._log_won(limit)
        logs = np.log(self._elapsed_ms())[:, None] + np.cumsum(log_won[::-1], axis=0)[::-1]
        weights = np.exp(logs[:, int(np.argmax(logs.max(axis=0)))] - logs.max())
        shares = np.cumsum(weights) / weights.sum()
        early, first, late = (int(np.searchsorted(shares, share)) for share in (0.05, 0.5, 0.95))
        found = self.cohorts[first:]
        mean = sum(each.losses for each in found) / sum(each.weights for each in found)
        return Harm(
            self.cohorts[first].start_ms,
            self.cohorts[early].start_ms,
            self.cohorts[min(late, len(self.cohorts) - 1)].end_ms,
            sum(each.labels for each in found),
            mean,
            self._low(limit, mean),
        )

    def _low(self, limit: float, mean: float) -> float:
        """Return the largest limit that these losses exceed with a confidence of 95 %, at least ``limit``.

        While the mean is at most a limit, the expected evidence at a time T is at most T. So the probability
        that it ever reaches T / alpha before T is at most alpha.
        """
        elapsed_ms = self._elapsed_ms()
        needed = math.log(elapsed_ms.sum() / LOW_ALPHA * len(STAKES))
        limits = np.linspace(limit, max(mean, limit), LOW_STEPS)
        low = limit
        for tried in limits[1:].tolist():
            logs = np.log(elapsed_ms)[:, None] + np.cumsum(self._log_won(tried)[::-1], axis=0)[::-1]
            if float(np.logaddexp.reduce(logs.ravel())) < needed:
                break
            low = tried
        return low

    def _log_won(self, limit: float) -> Numbers:
        """Return the logarithm of what each stake wins with each cohort ``(n_cohorts, n_stakes)``."""
        bounded = min(max(limit, LIMIT_MIN), 1 - LIMIT_MIN)
        sums = np.array([_sums(each) for each in self.cohorts])
        weights, losses, weight_squares, products, loss_squares, largest = sums.T
        unit = bounded * np.maximum(largest, 1.0)
        excess = (losses - bounded * weights) / unit
        squares = (loss_squares - 2 * bounded * products + bounded * bounded * weight_squares) / unit**2
        stakes = STAKES * min(1.0, bounded / RARE_LIMIT)
        debts = -np.log1p(-stakes) - stakes
        won: Numbers = (excess[:, None] * stakes - squares[:, None] * debts) * self._power
        return won

    def _elapsed_ms(self) -> Numbers:
        """Return the time that each cohort adds ``(n_cohorts,)``, at least 1 ms."""
        ends_ms = np.array([each.end_ms for each in self.cohorts], dtype=np.int64)
        starts_ms = np.array([each.start_ms for each in self.cohorts], dtype=np.int64)
        newest_ms = np.maximum.accumulate(ends_ms)
        before_ms = np.concatenate([starts_ms[:1], newest_ms[:-1]])
        longest_ms = np.maximum(GAP_MS_MAX, ends_ms - starts_ms)
        elapsed_ms: Numbers = np.clip(newest_ms - before_ms, 1, longest_ms).astype(np.float64)
        return elapsed_ms


def _sums(cohort: CohortLosses) -> tuple[float, ...]:
    """Return the sums of a cohort, and the upper bound of its weights."""
    return (
        cohort.weights, cohort.losses, cohort.weight_squares, cohort.products, cohort.loss_squares,
        cohort.weight_max,
    )  # fmt: skip
