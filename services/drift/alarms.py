"""Which alarms are raised, at the beginning of a change, and how long they are active."""

import math
from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple, get_args

import msgspec

from services.drift import alarm_texts
from services.drift.detectors.protocol import DetectedChange
from services.drift.detectors.watchers import ChangeSubject
from services.drift.windows.window import DriftWindow
from services.drift.windows.window_report import WindowComparison
from services.runtime.declaration import ModelDeclaration, QualityBounds
from streams import records
from streams.records import FeatureQuality

AlarmKind = Literal["feature", "category", "relation", "quality", "score", "loss"]
ALARM_KINDS: tuple[AlarmKind, ...] = get_args(AlarmKind)
E_DETECTOR = "e-detector"
"""The detector of changes in rows."""
EVIDENCE_MAX = 20
"""Maximum alarms in one retraining request."""


class SubjectAlarms(msgspec.Struct, array_like=True):
    """The active alarms of one subject, and for how many windows it has been calm."""

    calm_windows: int = 0
    """Consecutive windows without drift, up to now."""
    raised: dict[str, records.DriftAlarm] = {}
    """Active alarms by detector and segment."""


class AlarmContent(msgspec.Struct, frozen=True):
    """What an alarm says about its subject."""

    kind: AlarmKind
    subject: str
    value: float
    threshold: float
    message: str


class Detected(NamedTuple):
    """An alarm, or the end of one, with the index, among the records in process, of its record."""

    record_index: int
    alarm: records.DriftAlarm | ChangeSubject
    """A subject: its change is over."""


class ActiveAlarms:
    """Remembers which alarms are active, so that each is raised once.

    An alarm of the e-detector ends when the detector says so (`standing_changes`), all others after calm
    windows.
    """

    def __init__(self, windows: int, subjects: dict[str, SubjectAlarms] | None = None) -> None:
        """Start without alarms, or from a snapshot. An alarm is cleared after ``windows`` calm windows."""
        self._windows = windows
        self.subjects = subjects or {}

    def clear(self) -> None:
        """Clear all alarms: another champion has another reference."""
        self.subjects.clear()

    def evidence(self) -> list[records.DriftAlarm]:
        """Return up to `EVIDENCE_MAX` active alarms: loss first, then the furthest above their threshold."""
        raised = [alarm for each in self.subjects.values() for alarm in each.raised.values()]
        raised.sort(key=lambda alarm: (alarm.kind != "loss", -_excess(alarm), alarm.alarm_id))
        return raised[:EVIDENCE_MAX]

    def ids(self) -> list[str]:
        """Return the ids of all active alarms, sorted: at most one per subject, segment and detector."""
        return sorted(alarm.alarm_id for each in self.subjects.values() for alarm in each.raised.values())

    def counts(self) -> dict[AlarmKind, int]:
        """Return the number of active alarms of each kind, 0 for a kind without any."""
        kinds = [alarm.kind for each in self.subjects.values() for alarm in each.raised.values()]
        return {kind: kinds.count(kind) for kind in ALARM_KINDS}

    def raise_new(self, alarms: Iterable[records.DriftAlarm | ChangeSubject]) -> list[records.DriftAlarm]:
        """Activate and end alarms in this order; return those that were not active before."""
        raised = []
        for alarm in alarms:
            if isinstance(alarm, ChangeSubject):
                self._end(alarm)
            elif self.raise_once(alarm):
                raised.append(alarm)
        return raised

    def keep_standing(self, standing: Collection[ChangeSubject]) -> None:
        """End the alarms of the e-detector whose change is not among those that it restored.

        These are alarms of older states, and of segments that are not declared any more.
        """
        for subject in self.subjects.values():
            for name, alarm in list(subject.raised.items()):
                if alarm.detector == E_DETECTOR and subject_of(alarm) not in standing:
                    del subject.raised[name]

    def raise_once(self, alarm: records.DriftAlarm) -> bool:
        """Activate an alarm; tell whether it was not active before."""
        subject = self._subject(alarm.kind, alarm.subject)
        subject.calm_windows = 0
        name = f"{alarm.detector} {alarm.segment}"
        if name in subject.raised:
            return False
        subject.raised[name] = alarm
        return True

    def observe(self, kind: AlarmKind, name: str, *, drifted: bool) -> None:
        """Count a window in which a subject drifted or was calm; enough calm windows clear its alarms."""
        subject = self._subject(kind, name)
        subject.calm_windows = 0 if drifted else subject.calm_windows + 1
        if subject.calm_windows >= self._windows:
            subject.raised.clear()

    def observe_quality(self, found: Iterable[FeatureQuality]) -> None:
        """Observe the declared bounds of the features in a closed window."""
        for each in found:
            self.observe("quality", each.feature, drifted=each.broken)

    def _end(self, ended: ChangeSubject) -> None:
        """End the alarm of a change, which is of the kind category if there were many new ones."""
        kinds: tuple[AlarmKind, ...] = (ended.kind,) if ended.kind != "feature" else ("feature", "category")
        for kind in kinds:
            self._subject(kind, ended.subject).raised.pop(f"{E_DETECTOR} {ended.segment}", None)

    def _subject(self, kind: AlarmKind, name: str) -> SubjectAlarms:
        return self.subjects.setdefault(f"{kind}:{name}", SubjectAlarms())


def subject_of(alarm: records.DriftAlarm) -> ChangeSubject | None:
    """Return the change of which an alarm is; None for a loss or a declared bound."""
    match alarm.kind:
        case "loss" | "quality":
            return None
        case "category" | "feature":
            return ChangeSubject("feature", alarm.subject, alarm.segment)
        case kind:
            return ChangeSubject(kind, alarm.subject, alarm.segment)


def _excess(alarm: records.DriftAlarm) -> float:
    """Return the value as a multiple of the threshold; infinite where the threshold is 0."""
    return alarm.value / alarm.threshold if alarm.threshold else math.inf


def alarm_of(
    model: str,
    version: int,
    content: AlarmContent,
    detected_at_ms: int,
    since_ms: int,
    detector: str = "window",
) -> records.DriftAlarm:
    """Make the record of an alarm; its id follows from the event time, so a replay makes the same id."""
    return records.DriftAlarm(
        alarm_id=f"{model}-{content.kind}-{content.subject}-{detector}-{detected_at_ms}",
        model=model,
        version=version,
        kind=content.kind,
        subject=content.subject,
        value=content.value,
        threshold=content.threshold,
        detected_at_ms=detected_at_ms,
        since_ms=since_ms,
        message=content.message,
        detector=detector,
    )


def alarm_of_change(
    model: str, version: int, content: AlarmContent, change: DetectedChange, detector: str, segment: str = ""
) -> records.DriftAlarm:
    """Make the record of a change that a detector found, with the interval of its start and its effect."""
    alarm = alarm_of(model, version, content, change.detected_at_ms, change.since_ms, detector)
    return msgspec.structs.replace(
        alarm,
        alarm_id=f"{alarm.alarm_id}-{segment}" if segment else alarm.alarm_id,
        since_from_ms=change.since_from_ms,
        since_to_ms=change.since_to_ms,
        effect=change.effect,
        segment=segment,
    )


def quality_alarms(
    declaration: ModelDeclaration, version: int, compared: WindowComparison, window: DriftWindow
) -> list[records.DriftAlarm]:
    """Return an alarm for each declared bound that a window broke."""
    bounds = declaration.monitoring.quality
    return [
        alarm_of(
            declaration.name,
            version,
            _quality_content(each, bounds.get(each.feature, QualityBounds())),
            window.end_ms,
            window.start_ms,
            "declared",
        )
        for each in compared.quality
        if each.broken
    ]


def _quality_content(quality: FeatureQuality, bounds: QualityBounds) -> AlarmContent:
    """Describe a window that broke a declared bound: the share of wrong values, and the allowed share."""
    invalid = quality.wrong_type + quality.below + quality.above + quality.not_allowed
    too_many = invalid > quality.invalid_share_max * quality.values
    allowed = quality.invalid_share_max if too_many else quality.null_share_max or 0.0
    share = (invalid if too_many else quality.nulls) / quality.values
    text = alarm_texts.quality_text(quality, bounds)
    return AlarmContent("quality", quality.feature, share, allowed, text)
