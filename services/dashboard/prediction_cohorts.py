"""The performance of the predictions of one window, as the page shows it. Pure."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from services.dashboard.arm_windows import page_number
from streams.records import (
    Figure,
    PerformanceReport,
)

CLASSES_MAX = 16
"""Maximum classes of a confusion matrix."""


class Cohort(msgspec.Struct, kw_only=True, frozen=True):
    """Performance of the predictions of one window, by the loss, in the latest revision."""

    cohort_id: str
    version: int
    start_ms: int
    end_ms: int
    revision: int
    state: Literal["provisional", "mature", "complete"]
    predictions: int
    labels: int
    maturity: float | None
    measure: str
    realised: float | None
    low: float | None
    high: float | None
    estimated: float | None
    running: float | None
    running_low: float | None
    running_high: float | None
    cost: float | None
    """Mean cost of a prediction; the next two: the same of the reference and of the previous champion."""
    cost_reference: float | None = None
    cost_before: float | None = None
    unit: str
    """Unit of the cost."""
    precision: float | None = None
    """Precision at the declared threshold, or its mean over the classes; the next two likewise."""
    recall: float | None = None
    f1: float | None = None
    threshold: float | None = None
    """The declared threshold of a binary model; for the next three, see `SegmentPerformance`."""
    thresholds: list[float] = []
    positives: list[int] = []
    negatives: list[int] = []
    classes: list[str] = []
    """Classes of a multiclass model; this list and the next one are empty for more than 16 classes."""
    confusion: list[list[int]] = []


def cohort_id(report: PerformanceReport) -> str:
    """Return the id of the cohort that a report is about: it has many revisions."""
    return f"{report.version}:{report.window_start_ms}"


def prediction_cohort(report: PerformanceReport) -> Cohort:
    """Return the cohort of a report that has at least one segment."""
    figures = {figure.measure: figure for figure in report.segments[0].figures}
    loss, cost = report.segments[0].figures[0], figures.get("cost")
    return Cohort(
        cohort_id=cohort_id(report),
        version=report.version,
        start_ms=report.window_start_ms,
        end_ms=report.window_end_ms,
        revision=report.revision,
        state=report.state,
        predictions=report.predictions,
        labels=report.labels,
        maturity=page_number(report.maturity),
        measure=loss.measure,
        realised=page_number(loss.realised),
        low=page_number(loss.low),
        high=page_number(loss.high),
        estimated=page_number(loss.estimated),
        running=page_number(loss.running),
        running_low=page_number(loss.running_low),
        running_high=page_number(loss.running_high),
        cost=page_number(cost.realised) if cost else None,
        cost_reference=page_number(report.cost.reference) if report.cost else None,
        cost_before=page_number(report.cost.before) if report.cost else None,
        unit=report.unit,
        **_outcomes(report, figures),
    )


def _outcomes(report: PerformanceReport, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Return the fields of a cohort about precision and recall."""
    whole, macro = report.segments[0], "macro_" if report.classes else ""
    found: dict[str, Any] = {
        name: page_number(figures[macro + name].realised)
        for name in ("precision", "recall", "f1")
        if macro + name in figures
    }
    if whole.positives:
        found |= {name: getattr(report, name) for name in ("threshold", "thresholds")}
        found |= {name: getattr(whole, name) for name in ("positives", "negatives")}
    if whole.confusion and len(report.classes) <= CLASSES_MAX:
        found |= {"classes": report.classes, "confusion": whole.confusion}
    return found
