"""The part of a window's report about precision and recall: by threshold, by class, as a matrix. Pure."""

import dataclasses
from collections.abc import Sequence

from services.monitoring import outcome_tables
from services.monitoring.classification import Confusion
from services.monitoring.reports import svg_charts
from services.monitoring.reports.svg_charts import Line
from services.runtime.declaration import ModelDeclaration
from streams.records import PerformanceReport

CLASSES_SHOWN_MAX = 16
"""Maximum classes of a matrix on the page; the table of classes has all."""


@dataclasses.dataclass(frozen=True)
class ThresholdRow:
    """What a threshold would have given."""

    threshold: float
    declared: bool
    found: Confusion
    cost: float | None
    """Mean cost of a prediction; None without declared costs."""


@dataclasses.dataclass(frozen=True)
class OutcomeSection:
    """All that the section shows; None and empty where nothing was counted."""

    rows: Sequence[ThresholdRow]
    chart: str
    classes: Sequence[tuple[str, Confusion]]
    names: Sequence[str]
    matrix: Sequence[Sequence[int]]
    cheapest: ThresholdRow | None
    """The row with the lowest cost."""


def make(report: PerformanceReport | None, declaration: ModelDeclaration | None) -> OutcomeSection | None:
    """Return the section of a report; None without counts."""
    if report is None or not report.segments or not report.labels:
        return None
    found = outcome_tables.of_report(report, report.segments[0])
    if not found.matrix:
        return None
    rows = [
        ThresholdRow(threshold, threshold == report.threshold, each, _mean_cost(each, declaration))
        for threshold, each in found.thresholds
    ]
    is_shown = len(found.names) <= CLASSES_SHOWN_MAX
    return OutcomeSection(
        rows,
        _chart(rows),
        found.classes,
        found.names if is_shown else (),
        found.matrix if is_shown else (),
        min((row for row in rows if row.cost is not None), key=lambda row: row.cost or 0.0, default=None),
    )


def _mean_cost(found: Confusion, declaration: ModelDeclaration | None) -> float | None:
    """Return the mean cost of a prediction with the declared costs."""
    if declaration is None or declaration.business is None or declaration.task != "binary":
        return None
    costs, total = declaration.business.costs, sum(found)
    if not total:
        return None
    right, wrong, missed, refused = found
    paid = right * costs["1"]["1"] + wrong * costs["1"]["0"]
    return (paid + missed * costs["0"]["1"] + refused * costs["0"]["0"]) / total


def _chart(rows: Sequence[ThresholdRow]) -> str:
    if not rows:
        return ""
    lines = [
        Line(name, css, [row.found.figures[name] for row in rows])
        for name, css in (("precision", "live"), ("recall", "shadow"), ("f1", "reference"))
    ]
    declared = next((number for number, row in enumerate(rows) if row.declared), 0)
    title = f"Precision, recall and F1 by threshold; the declared one is {rows[declared].threshold:g}"
    return svg_charts.timeline(
        title,
        lines,
        [f"threshold {row.threshold:g}" for row in rows],
        marked=declared,
        bounds=(0.0, 1.0),
    )
