"""The counts of a performance report as tables: by threshold, by class, and the confusion matrix. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from services.monitoring import classification
from services.monitoring.classification import Confusion
from streams.records import PerformanceReport, SegmentPerformance


class OutcomeTables(NamedTuple):
    """The labelled predictions of a window or a segment, by outcome. Empty where they were not counted."""

    thresholds: list[tuple[float, Confusion]]
    """Counts at each threshold of a binary model, in rising order."""
    classes: list[tuple[str, Confusion]]
    """Counts of each class of a multiclass model against all other classes."""
    names: Sequence[str]
    """Names of the rows and columns of the matrix."""
    matrix: list[list[int]]
    """Rows are labels, columns predicted classes. A binary model is counted at its declared threshold."""


def of_report(report: PerformanceReport, segment: SegmentPerformance) -> OutcomeTables:
    """Return the tables of one segment of a report."""
    if segment.confusion:
        classes = [
            (name, Confusion.of_class(segment.confusion, number))
            for number, name in enumerate(report.classes)
        ]
        return OutcomeTables([], classes, report.classes, segment.confusion)
    if not segment.positives or report.threshold is None:
        return OutcomeTables([], [], (), [])
    found = classification.by_threshold(segment.positives, segment.negatives)
    declared = found[report.thresholds.index(report.threshold)]
    matrix = [
        [declared.true_negatives, declared.false_positives],
        [declared.false_negatives, declared.true_positives],
    ]
    return OutcomeTables(list(zip(report.thresholds, found, strict=True)), [], ("0", "1"), matrix)
