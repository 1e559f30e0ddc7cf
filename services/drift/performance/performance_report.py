"""The figures of a performance report: realised, estimated and running, by segment and measure. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.drift.performance import derived_figures, outcome_counts
from services.drift.performance.cohorts import RAW, RAW_SQUARES, Numbers, PredictionCohort, SegmentSums
from services.drift.performance.confidence_intervals import MeanConfidenceSequence, normal_interval
from services.drift.performance.outcome_counts import OutcomeCounter
from services.drift.performance.performance_estimation import LABELS, POSITIVES, auc
from services.monitoring.model_metrics import MeasureRange, Measures
from streams import records

RunningMeans = Mapping[str, Sequence[MeanConfidenceSequence]]
"""Confidence sequences by segment, one for each measure."""


def segments_of(
    cohort: PredictionCohort, measures: Measures, running: RunningMeans
) -> list[records.SegmentPerformance]:
    """Return the performance of each segment of a cohort, all predictions (the empty name) first."""
    counter = OutcomeCounter(measures)
    return [
        _segment(cohort, name, measures, running.get(name, ()), counter) for name in sorted(cohort.segments)
    ]


def _segment(
    cohort: PredictionCohort,
    name: str,
    measures: Measures,
    running: Sequence[MeanConfidenceSequence],
    counter: OutcomeCounter,
) -> records.SegmentPerformance:
    sums = cohort.segments[name]
    figures = [
        _figure(measure, sums, number, cohort.ranges, running)
        for number, measure in enumerate(measures.names)
    ]
    figures += derived_figures.classification_figures(sums, measures, counter)
    if measures.task == "regression":
        figures.append(derived_figures.root_of(figures[measures.names.index("squared_error")]))
    if measures.task == "binary":
        figures.append(_auc_figure(sums, cohort.cells if not name else None))
    return records.SegmentPerformance(
        segment=name,
        predictions=sums.predictions,
        labels=sums.labels,
        running_labels=running[0].count if running else 0,
        figures=figures,
        **_counts(sums, counter),
    )


def _counts(sums: SegmentSums, counter: OutcomeCounter) -> dict[str, Any]:
    """Return the labels by outcome, as fields of the record; none where they are not counted."""
    if not len(sums.outcomes):
        return {}
    if counter.classes:
        return {"confusion": outcome_counts.by_class(sums.outcomes, len(counter.classes))}
    positives, negatives = outcome_counts.by_label(sums.outcomes)
    return {"positives": positives, "negatives": negatives}


def _figure(
    measure: str,
    sums: SegmentSums,
    number: int,
    ranges: Sequence[MeasureRange] | None,
    running: Sequence[MeanConfidenceSequence],
) -> records.Figure:
    realised = low = high = None
    if sums.labels:
        total, squares = float(sums.moments[number][RAW]), float(sums.moments[number][RAW_SQUARES])
        realised = total / sums.labels
        if ranges is not None:
            half_range = (ranges[number].high - ranges[number].low) / 2
            low, high = normal_interval(sums.labels, total, squares, half_range)
    estimated = sums.estimates[number] if sums.estimates else None
    figure = records.Figure(
        measure=measure,
        realised=realised,
        low=low,
        high=high,
        estimated=estimated,
        gap=None if realised is None or estimated is None else realised - estimated,
    )
    if not running or ranges is None:
        return figure
    floor, height = ranges[number].low, ranges[number].high - ranges[number].low
    mean, bounds = running[number].mean, running[number].interval()
    return msgspec.structs.replace(
        figure,
        running=floor + height * mean,
        running_low=floor + height * bounds[0],
        running_high=floor + height * bounds[1],
    )


def _auc_figure(sums: SegmentSums, cells: Numbers | None) -> records.Figure:
    realised = auc(cells[:, LABELS], cells[:, POSITIVES]) if cells is not None and len(cells) else None
    estimated = sums.estimated_auc
    gap = None if realised is None or estimated is None else realised - estimated
    return records.Figure(measure="auc", realised=realised, estimated=estimated, gap=gap)
