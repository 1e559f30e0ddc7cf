"""The state that the dashboard shows, as a pure function of the records read so far.

``reduce`` takes a state and a record and returns the next state. States are immutable, so the thread that
reads Kafka replaces them as a whole and the web server's loop reads them without a lock. Every item stores
the revision at which it last changed. The items that a page has missed since revision r are those with a
higher revision, for any number of records (see `changes_since`).

Records arrive at least once. Items are kept under the records' own ids, so repeats, and a replay from the
beginning of the topics, change nothing. The order between topics does not matter: request and result of a
retraining are merged in either order.

Bounds per model: the latest 2,000 windows (5 years of days) and as many cohorts of predictions, 1,000 alarms,
500 retrainings and 500 promotions; 256 features; 16 models. Older items are dropped and do not come back.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from services.dashboard.arm_windows import ArmWindow, arm_windows, page_number
from streams.records import (
    Arm,
    ConfidenceDrift,
    DriftAlarm,
    DriftReport,
    FeatureDrift,
    Figure,
    ModelChanged,
    PerformanceReport,
    RetrainingFinished,
    RetrainingRequested,
    Trigger,
    ValueStatistics,
)

MODELS_MAX = 16
FEATURES_MAX = 256
WINDOWS_MAX = 2000
ALARMS_MAX = 1000
RETRAININGS_MAX = 500
PROMOTIONS_MAX = 500
REFERENCES_MAX = 64
TEXT_LENGTH_MAX = 500
"""Maximum characters kept of a message or reason; the full text is on the topic."""
CATEGORIES_MAX = 20
CLASSES_MAX = 16
"""Maximum classes of a confusion matrix."""
EVIDENCE_MAX = 300.0
"""-log10 of the smallest p-value that a float can distinguish from 0."""

Record = (
    DriftReport | DriftAlarm | PerformanceReport | RetrainingRequested | RetrainingFinished | ModelChanged
)
Item = TypeVar("Item")


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
    reference_log_loss: float | None
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
    revision: int = 0
    """Above 0 if the window was reported again because of late records."""


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
    """Mean cost of a prediction, as the next two: of the reference, and of the previous champion."""
    cost_reference: float | None = None
    cost_before: float | None = None
    unit: str
    """Unit of the cost."""
    precision: float | None = None
    """At the declared threshold, or the mean over the classes, as the next two."""
    recall: float | None = None
    f1: float | None = None
    threshold: float | None = None
    """Binary: the declared one. The next three are as in `PerformanceReport` and `SegmentPerformance`."""
    thresholds: list[float] = []
    positives: list[int] = []
    negatives: list[int] = []
    classes: list[str] = []
    """Multiclass, as the next one; empty for more than 16 classes."""
    confusion: list[list[int]] = []


class ReferenceValues(msgspec.Struct, kw_only=True, frozen=True):
    """The numbers with which a version was trained, as ``values`` and ``score_values`` of a window."""

    version: int
    values: list[list[float] | None]
    score_values: list[float] | None


class Alarm(msgspec.Struct, kw_only=True, frozen=True):
    """An alarm, as a `DriftAlarm` reported it, and its end, as the reports of later windows tell it."""

    alarm_id: str
    version: int
    kind: str
    subject: str
    value: float | None
    threshold: float | None
    detected_at_ms: int
    since_ms: int
    message: str
    ended_ms: int | None = None
    """End of the first window at whose end it was not active any more; null: it is active."""


class RetrainingEntry(msgspec.Struct, kw_only=True, frozen=True):
    """A request for a new model and, once known, its result."""

    request_id: str
    trigger: Trigger
    requested_at_ms: int
    reason: str = ""
    alarms: list[str] = []
    """Ids of the alarms in the request's evidence."""
    result: Literal["promoted", "rejected", "failed"] | None = None
    """Null while it runs."""
    version: int = 0
    reasons: list[str] = []
    metrics: dict[str, float] = {}
    rows: int = 0
    duration_seconds: float = 0.0


class Promotion(msgspec.Struct, kw_only=True, frozen=True):
    """A version and the event time from which its arm used it."""

    arm: str
    version: int
    shadow: bool
    weight: int
    effective_from_ms: int
    changed_at_ms: int
    reason: str
    request_id: str


class ModelChanges(msgspec.Struct, kw_only=True, frozen=True):
    """Changes of one model; after revision 0, everything. Each list is in the order of event time."""

    features: list[str]
    features_omitted: int
    arms: list[Arm]
    windows: list[Window]
    cohorts: list[Cohort]
    alarms: list[Alarm]
    retrainings: list[RetrainingEntry]
    promotions: list[Promotion]
    references: list[ReferenceValues] = []


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry(Generic[Item]):
    at_ms: int
    revision: int
    item: Item


@dataclasses.dataclass(frozen=True, slots=True)
class Series(Generic[Item]):
    """The latest ``limit`` items by event time, each under its id. Immutable."""

    limit: int
    entries: Mapping[str, _Entry[Item]] = dataclasses.field(default_factory=dict)
    evicted: tuple[int, str] | None = None
    """The latest (time, id) that was dropped; nothing up to it is added again."""

    def get(self, key: str) -> Item | None:
        """Return the item under an id."""
        entry = self.entries.get(key)
        return None if entry is None else entry.item

    def put(self, key: str, at_ms: int, item: Item, revision: int) -> "Series[Item]":
        """Return the series with this item; the same object if nothing changes."""
        if self.get(key) == item or (self.evicted is not None and (at_ms, key) <= self.evicted):
            return self
        entries = {**self.entries, key: _Entry(at_ms, revision, item)}
        if len(entries) <= self.limit:
            return Series(self.limit, entries, self.evicted)
        oldest = min((entry.at_ms, name) for name, entry in entries.items())
        del entries[oldest[1]]
        return Series(self.limit, entries, oldest)

    def since(self, revision: int) -> list[Item]:
        """Return the items that changed after a revision, in the order of event time."""
        changed = [
            (entry.at_ms, key, entry) for key, entry in self.entries.items() if entry.revision > revision
        ]
        return [entry.item for _, _, entry in sorted(changed, key=lambda row: row[:2])]


@dataclasses.dataclass(frozen=True, slots=True)
class ModelState:
    """The state of one model."""

    revision: int = 0
    features: tuple[str, ...] = ()
    """Names in the order in which they were first seen; only ever appended to."""
    features_omitted: int = 0
    arms: tuple[Arm, ...] = ()
    arms_changed_at_ms: int = -1
    windows: Series[Window] = dataclasses.field(default_factory=lambda: Series(WINDOWS_MAX))
    cohorts: Series[Cohort] = dataclasses.field(default_factory=lambda: Series(WINDOWS_MAX))
    alarms: Series[Alarm] = dataclasses.field(default_factory=lambda: Series(ALARMS_MAX))
    retrainings: Series[RetrainingEntry] = dataclasses.field(default_factory=lambda: Series(RETRAININGS_MAX))
    promotions: Series[Promotion] = dataclasses.field(default_factory=lambda: Series(PROMOTIONS_MAX))
    references: Series[ReferenceValues] = dataclasses.field(default_factory=lambda: Series(REFERENCES_MAX))


@dataclasses.dataclass(frozen=True, slots=True)
class DashboardState:
    """The state of all models, and the number of changes that led to it."""

    revision: int = 0
    models: Mapping[str, ModelState] = dataclasses.field(default_factory=dict)


def reduce(state: DashboardState, record: Record) -> DashboardState:
    """Return the state after a record; the same object if the record changes nothing."""
    known = state.models.get(record.model)
    if known is None and len(state.models) >= MODELS_MAX:
        return state
    before = known or ModelState()
    revision = state.revision + 1
    match record:
        case DriftReport():
            after = _with_report(before, record, revision)
        case PerformanceReport():
            after = _with_performance(before, record, revision)
        case DriftAlarm():
            after = _with_alarm(before, record, revision)
        case RetrainingRequested():
            after = _with_request(before, record, revision)
        case RetrainingFinished():
            after = _with_result(before, record, revision)
        case ModelChanged():
            after = _with_arms(before, record, revision)
    if after == before:
        return state
    changed = dataclasses.replace(after, revision=revision)
    return DashboardState(revision, {**state.models, record.model: changed})


def changes_since(state: DashboardState, revision: int) -> dict[str, ModelChanges]:
    """Return the changes after a revision, by model; after 0, everything."""
    return {
        name: _changes(model, revision) for name, model in state.models.items() if model.revision > revision
    }


def _changes(model: ModelState, revision: int) -> ModelChanges:
    return ModelChanges(
        features=list(model.features),
        features_omitted=model.features_omitted,
        arms=list(model.arms),
        windows=model.windows.since(revision),
        cohorts=model.cohorts.since(revision),
        alarms=model.alarms.since(revision),
        retrainings=model.retrainings.since(revision),
        promotions=model.promotions.since(revision),
        references=model.references.since(revision),
    )


def _with_report(model: ModelState, report: DriftReport, revision: int) -> ModelState:
    names = dict.fromkeys((*model.features, *(drift.feature for drift in report.features)))
    features = tuple(names)[:FEATURES_MAX]
    window = _window(report, features)
    known = model.windows.get(report.report_id)
    if known is not None and known.revision > window.revision:
        return model
    windows = model.windows.put(report.report_id, report.window_end_ms, window, revision)
    if windows is model.windows:
        return model
    return dataclasses.replace(
        model,
        features=features,
        features_omitted=max(model.features_omitted, len(names) - len(features)),
        windows=windows,
        alarms=_with_ends(model.alarms, report, revision),
        references=_with_reference(model.references, report, features, revision),
    )


def _with_ends(alarms: Series[Alarm], report: DriftReport, revision: int) -> Series[Alarm]:
    """End the alarms that are not active at the end of a window; the earliest such window counts."""
    if report.alarms_standing is None:
        return alarms
    active, end_ms = set(report.alarms_standing), report.window_end_ms
    for entry in list(alarms.entries.values()):
        alarm = entry.item
        is_open = alarm.ended_ms is None or alarm.ended_ms > end_ms
        if is_open and alarm.detected_at_ms <= end_ms and alarm.alarm_id not in active:
            ended = msgspec.structs.replace(alarm, ended_ms=end_ms)
            alarms = alarms.put(alarm.alarm_id, alarm.detected_at_ms, ended, revision)
    return alarms


def _with_reference(
    references: Series[ReferenceValues], report: DriftReport, features: tuple[str, ...], revision: int
) -> Series[ReferenceValues]:
    """Add the reference of a version with its first report; it stays the same."""
    known = {drift.feature: _values(drift.reference_values) for drift in report.features}
    item = ReferenceValues(
        version=report.version,
        values=[known.get(name) for name in features],
        score_values=_values(report.score.reference_values if report.score else None),
    )
    if not any(item.values) and item.score_values is None:
        return references
    return references.put(str(report.version), report.version, item, revision)


def _window(report: DriftReport, features: tuple[str, ...]) -> Window:
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
        reference_log_loss=page_number(report.reference_log_loss),
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
        revision=report.revision,
    )


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


def _with_performance(model: ModelState, report: PerformanceReport, revision: int) -> ModelState:
    """Keep the latest revision of the performance of a window's predictions."""
    key = f"{report.version}:{report.window_start_ms}"
    known = model.cohorts.get(key)
    if not report.segments or (known is not None and known.revision > report.revision):
        return model
    figures = {figure.measure: figure for figure in report.segments[0].figures}
    loss, cost = report.segments[0].figures[0], figures.get("cost")
    item = Cohort(
        cohort_id=key,
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
    cohorts = model.cohorts.put(key, report.window_end_ms, item, revision)
    return dataclasses.replace(model, cohorts=cohorts)


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


def _column(rows: Sequence[FeatureDrift | None], name: str) -> list[float | None]:
    return [None if row is None else page_number(getattr(row, name)) for row in rows]


def _effects(rows: Sequence[FeatureDrift | None]) -> list[float | None]:
    return [None if row is None or not row.compared else page_number(row.psi) for row in rows]


def _with_alarm(model: ModelState, alarm: DriftAlarm, revision: int) -> ModelState:
    known = model.alarms.get(alarm.alarm_id)
    item = Alarm(
        ended_ms=None if known is None else known.ended_ms,
        alarm_id=alarm.alarm_id,
        version=alarm.version,
        kind=alarm.kind,
        subject=alarm.subject[:TEXT_LENGTH_MAX],
        value=page_number(alarm.value),
        threshold=page_number(alarm.threshold),
        detected_at_ms=alarm.detected_at_ms,
        since_ms=alarm.since_ms,
        message=alarm.message[:TEXT_LENGTH_MAX],
    )
    alarms = model.alarms.put(alarm.alarm_id, alarm.detected_at_ms, item, revision)
    return dataclasses.replace(model, alarms=alarms)


def _with_request(model: ModelState, request: RetrainingRequested, revision: int) -> ModelState:
    asked = RetrainingEntry(
        request_id=request.request_id, trigger=request.trigger, requested_at_ms=request.requested_at_ms
    )
    item = msgspec.structs.replace(
        model.retrainings.get(request.request_id) or asked,
        reason=request.reason[:TEXT_LENGTH_MAX],
        alarms=[alarm.alarm_id for alarm in request.evidence[:ALARMS_MAX]],
    )
    return _with_retraining(model, item, revision)


def _with_result(model: ModelState, finished: RetrainingFinished, revision: int) -> ModelState:
    asked = RetrainingEntry(
        request_id=finished.request_id, trigger=finished.trigger, requested_at_ms=finished.requested_at_ms
    )
    item = msgspec.structs.replace(
        model.retrainings.get(finished.request_id) or asked,
        result=finished.result,
        version=finished.version,
        reasons=[reason[:TEXT_LENGTH_MAX] for reason in finished.reasons[:CATEGORIES_MAX]],
        metrics={name: value for name, value in finished.metrics.items() if math.isfinite(value)},
        rows=finished.rows,
        duration_seconds=finished.duration_seconds,
    )
    return _with_retraining(model, item, revision)


def _with_retraining(model: ModelState, item: RetrainingEntry, revision: int) -> ModelState:
    retrainings = model.retrainings.put(item.request_id, item.requested_at_ms, item, revision)
    return dataclasses.replace(model, retrainings=retrainings)


def _with_arms(model: ModelState, change: ModelChanged, revision: int) -> ModelState:
    """Keep the latest arms, and the first record that lists an arm as its promotion.

    Later records still list the previous champion, but with another time and reason.
    """
    promotions = model.promotions
    for arm in change.arms:
        key = f"{arm.name}:{arm.version}:{arm.effective_from_ms}"
        known = promotions.get(key)
        if known is None or change.changed_at_ms < known.changed_at_ms:
            promotions = promotions.put(key, arm.effective_from_ms, _promotion(arm, change), revision)
    if change.changed_at_ms < model.arms_changed_at_ms:
        return dataclasses.replace(model, promotions=promotions)
    return dataclasses.replace(
        model, promotions=promotions, arms=tuple(change.arms), arms_changed_at_ms=change.changed_at_ms
    )


def _promotion(arm: Arm, change: ModelChanged) -> Promotion:
    return Promotion(
        arm=arm.name,
        version=arm.version,
        shadow=arm.shadow,
        weight=arm.weight,
        effective_from_ms=arm.effective_from_ms,
        changed_at_ms=change.changed_at_ms,
        reason=change.reason[:TEXT_LENGTH_MAX],
        request_id=change.request_id,
    )


def _evidence(drift: FeatureDrift | None) -> float | None:
    if drift is None or not 0 <= drift.p_value <= 1:
        return None
    return round(min(EVIDENCE_MAX, -math.log10(drift.p_value)), 1) if drift.p_value else EVIDENCE_MAX
