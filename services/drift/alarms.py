"""Which alarms are raised: at the beginning of something, not again in each window that it lasts."""

from typing import Literal

import msgspec

from streams import records

Kind = Literal["feature", "category", "score", "loss"]
EVIDENCE_MAX = 20
"""Alarms carried by one request for retraining."""


class Watch(msgspec.Struct, array_like=True):
    """How one subject has been of late."""

    drifted_windows: int = 0
    """Consecutive, up to now."""
    calm_windows: int = 0
    since_ms: int = 0
    """Start of the first of the consecutive drifted windows."""
    raised: records.DriftAlarm | None = None
    """The alarm that stands."""


class Finding(msgspec.Struct, frozen=True):
    """What one window says about one subject."""

    kind: Kind
    subject: str
    drifted: bool
    value: float
    threshold: float
    message: str


class Alarms:
    """Raises an alarm when enough consecutive windows agree, and takes it back in the same way.

    One day of storms differs from a month of weather, every time; what stays different is drift. So
    evidence within a window is not enough: its values are far from independent.
    """

    def __init__(self, model: str, windows: int, watches: dict[str, Watch] | None = None) -> None:
        """Start calm, or from a snapshot. ``windows`` must agree before anything changes."""
        self._model = model
        self._windows = windows
        self.watches = watches or {}

    def clear(self) -> None:
        """Begin anew: another champion, another reference."""
        self.watches.clear()

    def standing(self) -> list[records.DriftAlarm]:
        """Return the alarms that stand: loss first, then the most drifted."""
        raised = [watch.raised for watch in self.watches.values() if watch.raised is not None]
        raised.sort(key=lambda alarm: (alarm.kind != "loss", -alarm.value / alarm.threshold, alarm.alarm_id))
        return raised[:EVIDENCE_MAX]

    def observe(
        self, finding: Finding, version: int, start_ms: int, end_ms: int
    ) -> records.DriftAlarm | None:
        """Take what one window says; return an alarm if it is the beginning of one."""
        watch = self.watches.setdefault(f"{finding.kind}:{finding.subject}", Watch())
        if not finding.drifted:
            watch.drifted_windows = 0
            watch.calm_windows += 1
            if watch.calm_windows >= self._needed(finding):
                watch.raised = None
            return None
        if not watch.drifted_windows:
            watch.since_ms = start_ms
        watch.drifted_windows += 1
        watch.calm_windows = 0
        if watch.raised is not None or watch.drifted_windows < self._needed(finding):
            return None
        watch.raised = alarm_of(self._model, version, finding, end_ms, watch.since_ms)
        return watch.raised

    def _needed(self, finding: Finding) -> int:
        """Loss is a mean over many windows already."""
        return 1 if finding.kind == "loss" else self._windows


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
    )
