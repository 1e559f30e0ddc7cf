"""Alarms of drift, and the notices about them."""

from typing import Literal

import msgspec

from streams.records.drift_reports import Contribution
from streams.records.field_types import Int64, TimeMs


class DriftAlarm(msgspec.Struct, kw_only=True, frozen=True, tag="drift_alarm"):
    """A change was detected. ``alarm_id`` is the same after a replay."""

    alarm_id: str
    model: str
    version: Int64
    kind: Literal["feature", "category", "relation", "quality", "score", "loss"]
    subject: str
    """The name of a feature, the names of two features, ``score``, ``prediction`` (the predicted classes of a
    multiclass model), or the name of a loss."""
    value: float
    threshold: float
    detected_at_ms: TimeMs
    """Event time."""
    since_ms: TimeMs
    """Estimated event time at which the change began."""
    message: str
    detector: str = "window"
    """The detector: ``e-detector``, ``window``, ``adwin`` or another one of river."""
    since_from_ms: TimeMs | None = None
    """Start of the interval in which the change probably began; null if the detector gives none."""
    since_to_ms: TimeMs | None = None
    """End of that interval."""
    effect: float | None = None
    """Mean rank of recent values in the reference, 0 to 1; 0.5 means no change."""
    segment: str = ""
    """``origin=EWR``: only predictions with this value; empty: all."""
    contributions: list[Contribution] = []
    """The bins of a feature that contribute most to its change in the window so far, at most three."""


Severity = Literal["info", "warning", "critical"]


class Alert(msgspec.Struct, kw_only=True, frozen=True):
    """A notification about one alarm, retraining or change of models."""

    alert_id: str
    """The id of the alarm, or an id derived from the retraining request; the same after a replay."""
    model: str
    kind: str
    """The kind of the alarm, or ``retraining``, or ``rollout``."""
    severity: Severity
    title: str
    subject: str = ""
    segment: str = ""
    at_ms: TimeMs
    """Event time."""
    since_ms: TimeMs | None = None
    since_from_ms: TimeMs | None = None
    since_to_ms: TimeMs | None = None
    effect: str = ""
    """The size of the effect, in words."""
    stands: bool = False
    """Whether the alert stays open until it is resolved, as alarms do."""
    recorded_ms: TimeMs = 0
    """Wall time of the record from which the alert was made."""
    request_id: str = ""
    """The request of a retraining; empty for all other kinds."""
    event: str = ""
    """What happened to it: ``requested``, or its result; empty for all other kinds."""
    version: Int64 = 0
    """The version of its candidate; 0: none."""


class Notified(msgspec.Struct, kw_only=True, frozen=True, tag="notified"):
    """The state of an alert at one destination; the latest record of a key counts."""

    destination: str
    alert: Alert
    state: Literal["told", "given_up", "resolved"]
    """``told``: delivered; ``given_up``: all attempts failed; ``resolved``: closed, no more messages."""
    told_ms: TimeMs
    """Wall time of the last attempt."""
    times: Int64 = 1


class Silence(msgspec.Struct, kw_only=True, frozen=True, tag="silence"):
    """Alerts that match are not sent until ``until_ms``; an empty field matches all values."""

    silence_id: str
    until_ms: TimeMs
    """Wall time."""
    created_ms: TimeMs
    reason: str
    model: str = ""
    kind: str = ""
    subject: str = ""
    segment: str = ""
