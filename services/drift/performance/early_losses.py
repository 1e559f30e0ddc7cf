"""The losses of a cohort of which many labels are still missing, weighted for labels that come early. Pure.

Early labels are not like all labels: frauds are reported late, flights that have arrived were on time. So
labels are divided into groups: by class, and those of a regression by whether the label is above the
prediction. If the share F of the labels of a group is known by now, each of them counts 1 / F times. The
expected sum of ``weight (loss - limit)`` is then that over all labels (Horvitz and Thompson 1952).

This assumes that, within its group, the delay of a label does not depend on the loss, and that delays are as
before. F is known, from cohorts whose label horizon has passed, up to the width of a cell of delays: a group
whose mean loss is above the limit gets the smallest weight that this allows, any other the largest. A cohort
is too early while less than `EARLY_SHARE` is known of any group. Where one class is known weeks before the
other, early labels are therefore no evidence.
"""

from collections.abc import Sequence

import numpy as np

from services.drift.performance.cohorts import SHARE_STEPS, PredictionCohort
from services.drift.performance.harm_evidence import CohortLosses
from services.drift.performance.label_maturity import LabelDelays
from services.monitoring.model_metrics import Measures, NumericPrediction

EARLY_SHARE = 0.5
"""Minimum share of the labels of each group that must be known."""
DELAYS_MIN = 400
"""Minimum delays known of a group: then its share is known to within 0.05 in nineteen cases of twenty."""
GROUPS_MAX = 32
"""Maximum groups; further classes share the last one."""


def groups_of(measures: Measures) -> int:
    """Return the number of groups of a model's labels."""
    return min(len(measures.classes), GROUPS_MAX) if measures.task == "multiclass" else 2


def group_of(measures: Measures, answer: NumericPrediction, label: float) -> int:
    """Return the group of a label."""
    if measures.task == "regression":
        return int(label > answer.score)
    return min(int(label), GROUPS_MAX - 1)


class EarlyLabels:
    """Takes the early labels of each cohort once, when enough are known; learns the delays of each group."""

    def __init__(self, horizon_ms: int, groups: int, counts: Sequence[Sequence[int]] = ()) -> None:
        """Start without delays, or from those of a state with the same number of groups."""
        self.groups = groups
        known = counts if len(counts) == groups else [()] * groups
        self._delays = [LabelDelays(horizon_ms, each) for each in known]

    def learn(self, cohort: PredictionCohort) -> None:
        """Add the delays of a cohort whose horizon has passed."""
        for delays, counts in zip(self._delays, cohort.group_delays, strict=True):
            delays.learn(counts)

    def take(self, cohort: PredictionCohort, limit: float | None, now_ms: int) -> list[CohortLosses]:
        """Return the losses of a cohort, unless it was taken before, is too early, or has no limit."""
        found = None
        if limit is not None and not cohort.early:
            found = early_losses(cohort, self._delays, limit, now_ms)
        cohort.early |= found is not None
        return [] if found is None else [found]

    def state(self) -> list[list[int]]:
        """Return the counts of delays, which `__init__` takes."""
        return [each.counts.tolist() for each in self._delays]


def early_losses(
    cohort: PredictionCohort, delays: Sequence[LabelDelays], limit: float, now_ms: int
) -> CohortLosses | None:
    """Return the weighted losses of the labels so far; None while they are too early.

    Args:
        cohort: Its window has ended.
        delays: Delays of the labels of each group, in cohorts whose horizon has passed.
        limit: The limit of the mean loss, as a share of the range.
        now_ms: The event time up to which labels are known.
    """
    labels = cohort.group_sums[:, 0]
    totals = np.array([each.counts.sum() for each in delays])
    seen = np.flatnonzero((totals > 0) | (labels > 0))
    if cohort.ranges is None or not labels.sum() or (totals[seen] < DELAYS_MIN).any():
        return None
    ages_ms, slots = cohort.ages_ms(now_ms), cohort.slots / cohort.all.predictions
    bounds = [delays[group].share_bounds(ages_ms, cohort.slot_ms) for group in seen.tolist()]
    low, high = (np.array([slots @ each[side] for each in bounds]) for side in (0, 1))
    if low.min() < EARLY_SHARE:
        return None
    counts, losses, squares = (cohort.group_sums[seen] / (1, SHARE_STEPS, SHARE_STEPS**2)).T
    weights = 1 / np.where(losses > limit * counts, high, low)
    return CohortLosses(
        cohort.start_ms,
        cohort.end_ms,
        int(counts.sum()),
        weights=float(weights @ counts),
        losses=float(weights @ losses),
        weight_squares=float(weights**2 @ counts),
        products=float(weights**2 @ losses),
        loss_squares=float(weights**2 @ squares),
        weight_max=1 / EARLY_SHARE,
    )


def mature_losses(cohort: PredictionCohort, measure: int, maturity: float) -> CohortLosses | None:
    """Return the losses of a mature cohort; labels that are still missing count as losses of 0.

    Args:
        cohort: Nearly all of its labels have come.
        measure: Index of the judged measure.
        maturity: Share of its labels that have come.
    """
    whole = cohort.all
    if cohort.ranges is None or not whole.labels:
        return None
    expected = whole.labels / min(max(maturity, EARLY_SHARE), 1.0)
    _, _, shares, squares = whole.moments[measure].tolist()
    loss, square = shares / SHARE_STEPS, squares / SHARE_STEPS**2
    return CohortLosses(
        cohort.start_ms,
        cohort.end_ms,
        whole.labels,
        weights=expected,
        losses=loss,
        weight_squares=expected,
        products=loss,
        loss_squares=square,
    )
