"""Which alarms are raised: at the beginning of something, not again in each window that it lasts."""

import math
from typing import Literal

import msgspec

from services.drift.detectors.protocol import DetectedChange
from services.runtime.declaration import QualityBounds
from streams import records
from streams.records import FeatureQuality

Kind = Literal["feature", "category", "relation", "quality", "score", "loss"]
EVIDENCE_MAX = 20
"""Alarms carried by one request for retraining."""


class Watch(msgspec.Struct, array_like=True):
    """How one subject has been of late."""

    calm_windows: int = 0
    """Consecutive, up to now."""
    raised: dict[str, records.DriftAlarm] = {}
    """The alarms that stand, by detector and segment."""


class Finding(msgspec.Struct, frozen=True):
    """What is to be said about one subject."""

    kind: Kind
    subject: str
    value: float
    threshold: float
    message: str


class Alarms:
    """Remembers which alarms stand, so that each is raised once, and takes them back after calm windows."""

    def __init__(self, windows: int, watches: dict[str, Watch] | None = None) -> None:
        """Start calm, or from a snapshot. So many windows without drift take an alarm back."""
        self._windows = windows
        self.watches = watches or {}

    def clear(self) -> None:
        """Begin anew: another champion, another reference."""
        self.watches.clear()

    def standing(self) -> list[records.DriftAlarm]:
        """Return the alarms that stand: loss first, then those that crossed their threshold furthest."""
        raised = [alarm for watch in self.watches.values() for alarm in watch.raised.values()]
        raised.sort(key=lambda alarm: (alarm.kind != "loss", -_excess(alarm), alarm.alarm_id))
        return raised[:EVIDENCE_MAX]

    def standing_ids(self) -> list[str]:
        """Return the ids of all alarms that stand: one a subject, segment and detector at most."""
        return sorted(alarm.alarm_id for watch in self.watches.values() for alarm in watch.raised.values())

    def raise_once(self, alarm: records.DriftAlarm) -> bool:
        """Let an alarm stand; tell whether it is news."""
        watch = self._watch(alarm.kind, alarm.subject)
        watch.calm_windows = 0
        name = f"{alarm.detector} {alarm.segment}"
        if name in watch.raised:
            return False
        watch.raised[name] = alarm
        return True

    def observe(self, kind: Kind, subject: str, *, drifted: bool) -> None:
        """Take what one window says of what was raised."""
        watch = self._watch(kind, subject)
        watch.calm_windows = 0 if drifted else watch.calm_windows + 1
        if watch.calm_windows >= self._windows:
            watch.raised.clear()

    def subjects(self, kind: Kind) -> list[str]:
        """Return those of one kind of which something was ever raised."""
        return [name.removeprefix(f"{kind}:") for name in self.watches if name.startswith(f"{kind}:")]

    def _watch(self, kind: Kind, subject: str) -> Watch:
        return self.watches.setdefault(f"{kind}:{subject}", Watch())


def _excess(alarm: records.DriftAlarm) -> float:
    """By how many times the value is its threshold; beyond all others where nothing at all is allowed."""
    return alarm.value / alarm.threshold if alarm.threshold else math.inf


def alarm_of(
    model: str, version: int, finding: Finding, detected_at_ms: int, since_ms: int, detector: str = "window"
) -> records.DriftAlarm:
    """Make the record of an alarm; its id follows from the event time, so a replay gives the same."""
    return records.DriftAlarm(
        alarm_id=f"{model}-{finding.kind}-{finding.subject}-{detector}-{detected_at_ms}",
        model=model,
        version=version,
        kind=finding.kind,
        subject=finding.subject,
        value=finding.value,
        threshold=finding.threshold,
        detected_at_ms=detected_at_ms,
        since_ms=since_ms,
        message=finding.message,
        detector=detector,
    )


def alarm_of_change(
    model: str, version: int, finding: Finding, change: DetectedChange, detector: str, segment: str = ""
) -> records.DriftAlarm:
    """Make the record of what a detector found, with its interval and its effect."""
    alarm = alarm_of(model, version, finding, change.detected_at_ms, change.since_ms, detector)
    return msgspec.structs.replace(
        alarm,
        alarm_id=f"{alarm.alarm_id}-{segment}" if segment else alarm.alarm_id,
        since_from_ms=change.since_from_ms,
        since_to_ms=change.since_to_ms,
        effect=change.effect,
        segment=segment,
    )


def quality_finding(quality: FeatureQuality, bounds: QualityBounds | None) -> Finding:
    """Say that a window broke what is declared: the share that was wrong, and the share allowed."""
    invalid = quality.wrong_type + quality.below + quality.above + quality.not_allowed
    too_many = invalid > quality.invalid_share_max * quality.values
    allowed = quality.invalid_share_max if too_many else quality.null_share_max or 0.0
    share = (invalid if too_many else quality.nulls) / quality.values
    return Finding(
        "quality", quality.feature, share, allowed, _quality_text(quality, bounds or QualityBounds())
    )


def _quality_text(quality: FeatureQuality, bounds: QualityBounds) -> str:
    parts = [
        (quality.nulls, "null"),
        (quality.wrong_type, "of another type than declared"),
        (quality.below, f"below {bounds.min}"),
        (quality.above, f"above {bounds.max}"),
        (quality.not_allowed, "none of the declared values"),
    ]
    found = ", ".join(f"{count} {what}" for count, what in parts if count)
    return f"{quality.feature}: of {quality.values} values {found}"
