"""Figures that follow from other sums: precision, recall and F1, the root of the squared error. Pure."""

import math

from services.drift.performance import outcome_counts
from services.drift.performance.cohorts import SegmentSums
from services.drift.performance.outcome_counts import OutcomeCounter
from services.monitoring import classification
from services.monitoring.model_metrics import Measures
from streams import records


def classification_figures(
    sums: SegmentSums, measures: Measures, counter: OutcomeCounter
) -> list[records.Figure]:
    """Return precision, recall and F1: of class 1 at the declared threshold, or the means over all classes.

    Precision and recall of a binary model have Wilson intervals and estimates. None without counts.
    """
    if counter.threshold is not None:
        return _binary(sums, measures, counter, counter.threshold)
    if not counter.classes or not len(sums.outcomes):
        return []
    matrix = outcome_counts.by_class(sums.outcomes, len(counter.classes))
    return [
        records.Figure(measure=f"macro_{name}", realised=value)
        for name, value in classification.macro_figures(matrix).items()
    ]


def _binary(
    sums: SegmentSums, measures: Measures, counter: OutcomeCounter, threshold: float
) -> list[records.Figure]:
    counts = sums.outcomes if len(sums.outcomes) else counter.no_outcomes()
    found = classification.at_threshold(counter.thresholds, threshold, *outcome_counts.by_label(counts))
    right, wrong, missed, _ = found
    estimates = _estimates(sums, measures)
    intervals = {"precision": (right, right + wrong), "recall": (right, right + missed)}
    figures = []
    for name, realised in found.figures.items():
        part, whole = intervals.get(name, (0, 0))
        low, high = classification.wilson_interval(part, whole) if whole else (None, None)
        estimated = estimates.get(name)
        figures.append(
            records.Figure(
                measure=name,
                realised=realised,
                low=low,
                high=high,
                estimated=estimated,
                gap=None if realised is None or estimated is None else realised - estimated,
            )
        )
    return figures


def _estimates(sums: SegmentSums, measures: Measures) -> dict[str, float]:
    """Return the estimated figures at the declared threshold, from the estimated shares of mistakes."""
    if not sums.estimates or sums.estimated_positives is None:
        return {}
    by_name = dict(zip(measures.names, sums.estimates, strict=True))
    wrong, missed = by_name["false_positive"], by_name["false_negative"]
    right = max(sums.estimated_positives - missed, 0.0)
    shares = {
        "precision": (right, right + wrong),
        "recall": (right, right + missed),
        "f1": (2 * right, 2 * right + wrong + missed),
    }
    return {name: part / whole for name, (part, whole) in shares.items() if whole > 0}


def root_of(squared: records.Figure) -> records.Figure:
    """Return the figure of the root mean squared error, from that of the squared error."""
    roots = {
        name: _root(getattr(squared, name))
        for name in ("realised", "low", "high", "estimated", "running", "running_low", "running_high")
    }
    realised, estimated = roots["realised"], roots["estimated"]
    gap = None if realised is None or estimated is None else realised - estimated
    return records.Figure(measure="rmse", gap=gap, **roots)


def _root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(max(value, 0.0))
