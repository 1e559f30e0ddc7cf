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
from collections.abc import Mapping
from typing import Literal

import msgspec

from services.dashboard.arm_windows import page_number
from services.dashboard.drift_windows import ReferenceValues, Window, drift_window, reference_values
from services.dashboard.item_series import Series
from services.dashboard.prediction_cohorts import Cohort, cohort_id, prediction_cohort
from streams.records import (
    Arm,
    DriftAlarm,
    DriftReport,
    ModelChanged,
    PerformanceReport,
    RetrainingFinished,
    RetrainingRequested,
    Trigger,
)

MODELS_MAX = 16
FEATURES_MAX = 256
WINDOWS_MAX = 2000
ALARMS_MAX = 1000
RETRAININGS_MAX = 500
PROMOTIONS_MAX = 500
REFERENCES_MAX = 64
REASONS_MAX = 20
"""Maximum reasons kept of a retraining's result."""
TEXT_LENGTH_MAX = 500
"""Maximum characters kept of a message or reason; the full text is on the topic."""

Record = (
    DriftReport | DriftAlarm | PerformanceReport | RetrainingRequested | RetrainingFinished | ModelChanged
)


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
    result: Literal["promoted", "passed", "rejected", "failed"] | None = None
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
    window = drift_window(report, features)
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
    item = reference_values(report, features)
    if item is None:
        return references
    return references.put(str(report.version), report.version, item, revision)


def _with_performance(model: ModelState, report: PerformanceReport, revision: int) -> ModelState:
    """Keep the latest revision of the performance of a window's predictions."""
    key = cohort_id(report)
    known = model.cohorts.get(key)
    if not report.segments or (known is not None and known.revision > report.revision):
        return model
    item = prediction_cohort(report)
    cohorts = model.cohorts.put(key, report.window_end_ms, item, revision)
    return dataclasses.replace(model, cohorts=cohorts)


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
        reasons=[reason[:TEXT_LENGTH_MAX] for reason in finished.reasons[:REASONS_MAX]],
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
