"""One window of event time, as the page shows it, and the reference of its version. Pure."""

import math
from collections.abc import Sequence

import msgspec

from services.dashboard.arm_windows import ArmWindow, arm_windows, page_number
from services.monitoring import window_loss
from streams.records import (
    ConfidenceDrift,
    DriftReport,
    FeatureDrift,
    ValueStatistics,
)

CATEGORIES_MAX = 20
"""Maximum new categories shown for one feature."""
EVIDENCE_MAX = 300.0
"""-log10 of the smallest p-value that a float can distinguish from 0."""


class Window(msgspec.Struct, kw_only=True, frozen=True):
    """One closed window of event time. Lists are in the order of ``features``; missing last values: null."""

    window_id: str
    version: int
    start_ms: int
    end_ms: int
    predictions: int
    labels: int
    psi: list[float | None]
    threshold: list[float | None]
    statistic: list[float | None]
    evidence: list[float | None]
    """-log10 of the p-value, at most 300."""
    missing_share: list[float | None]
    values: list[list[float] | None] = []
    """Mean, and quantiles at 0.05, 0.5 and 0.95, of numeric features; null for others."""
    score_values: list[float] | None = None
    """The same of the champion's scores."""
    confidence: list[float] | None = None
    """Mean confidence and share of low confidence in the window, then in training; null for a regression."""
    drifted: list[int]
    """Indexes of the features that count as drifted."""
    new_categories: dict[str, list[str]]
    score_psi: float | None
    score_threshold: float | None
    score_drifted: bool
    """Whether the scores drifted, or the predicted classes of a multiclass model."""
    has_reference: bool | None
    log_loss: float | None
    absolute_error: float | None
    """Only for regressions, which have no log loss."""
    accuracy: float | None
    reference_loss: float | None
    """Mean loss in the reference: log loss, or absolute error."""
    reference_loss_error: float
    """Minimum distance of the limit of the loss above ``reference_loss``."""
    shadow_log_loss: dict[str, float]
    labels_joined_total: int
    labels_orphaned_total: int
    labels_duplicate_total: int
    predictions_unlabelled_total: int
    labels_corrected_total: int = 0
    predictions_asked_again_total: int = 0
    arms: list[ArmWindow] = []
    alarms_active: int | None = None
    """Number of alarms that are active at the end; null in reports of older versions."""
    sample: float = 1.0
    """Share of the requests that the window is about."""
    revision: int = 0
    """Above 0 if the window was reported again because records came late."""


class ReferenceValues(msgspec.Struct, kw_only=True, frozen=True):
    """The numbers with which a version was trained, as ``values`` and ``score_values`` of a window."""

    version: int
    values: list[list[float] | None]
    score_values: list[float] | None


def drift_window(report: DriftReport, features: tuple[str, ...]) -> Window:
    """Return the window of a report, its lists in the order of ``features``."""
    by_name = {drift.feature: drift for drift in report.features}
    rows = [by_name.get(name) for name in features]
    while rows and rows[-1] is None:  # a window must not depend on features first seen after it
        rows.pop()
    return Window(
        window_id=report.report_id,
        version=report.version,
        start_ms=report.window_start_ms,
        end_ms=report.window_end_ms,
        predictions=report.predictions,
        labels=report.labels,
        psi=_effects(rows),
        threshold=_column(rows, "threshold"),
        statistic=_column(rows, "statistic"),
        evidence=[_evidence(row) for row in rows],
        missing_share=_column(rows, "missing_share"),
        values=[_values(row.values) if row is not None else None for row in rows],
        score_values=_values(report.score.values if report.score else None),
        confidence=_confidence(report.confidence),
        drifted=[index for index, row in enumerate(rows) if row is not None and row.drifted],
        new_categories={
            drift.feature: drift.new_categories[:CATEGORIES_MAX]
            for drift in report.features
            if drift.new_categories and drift.feature in features
        },
        score_psi=page_number(report.score_psi),
        score_threshold=page_number(report.score.threshold if report.score else None),
        score_drifted=any(each is not None and each.drifted for each in (report.score, report.prediction)),
        has_reference=report.has_reference,
        log_loss=page_number(report.log_loss),
        absolute_error=page_number(report.measures.get("absolute_error")),
        accuracy=page_number(report.accuracy),
        reference_loss=page_number(window_loss.reference_of(report)),
        reference_loss_error=page_number(report.reference_loss_error) or 0.0,
        shadow_log_loss={
            arm: rounded
            for arm, loss in (report.shadow_losses or report.shadow_log_loss).items()
            if (rounded := page_number(loss)) is not None
        },
        labels_joined_total=report.labels_joined_total,
        labels_orphaned_total=report.labels_orphaned_total,
        labels_duplicate_total=report.labels_duplicate_total,
        predictions_unlabelled_total=report.predictions_unlabelled_total,
        labels_corrected_total=report.labels_corrected_total,
        predictions_asked_again_total=report.predictions_asked_again_total,
        arms=arm_windows(report),
        alarms_active=None if report.alarms_standing is None else len(report.alarms_standing),
        sample=report.sample,
        revision=report.revision,
    )


def reference_values(report: DriftReport, features: tuple[str, ...]) -> ReferenceValues | None:
    """Return the values of the reference in the order of ``features``; None if the report has none."""
    known = {drift.feature: _values(drift.reference_values) for drift in report.features}
    item = ReferenceValues(
        version=report.version,
        values=[known.get(name) for name in features],
        score_values=_values(report.score.reference_values if report.score else None),
    )
    return None if item.score_values is None and not any(item.values) else item


def _values(found: ValueStatistics | None) -> list[float] | None:
    """Return mean, and quantiles at 0.05, 0.5 and 0.95; None without quantiles."""
    if found is None or not found.quantiles:
        return None
    return [found.mean, *found.quantiles[::2]]


def _confidence(found: ConfidenceDrift | None) -> list[float] | None:
    if found is None or found.low_share is None or found.reference_low_share is None:
        return None
    shown = found.mean, found.low_share, found.reference_mean, found.reference_low_share
    return [round(each, 4) for each in shown]


def _column(rows: Sequence[FeatureDrift | None], name: str) -> list[float | None]:
    return [None if row is None else page_number(getattr(row, name)) for row in rows]


def _effects(rows: Sequence[FeatureDrift | None]) -> list[float | None]:
    return [None if row is None or not row.compared else page_number(row.psi) for row in rows]


def _evidence(drift: FeatureDrift | None) -> float | None:
    if drift is None or not 0 <= drift.p_value <= 1:
        return None
    return round(min(EVIDENCE_MAX, -math.log10(drift.p_value)), 1) if drift.p_value else EVIDENCE_MAX
