"""Requests for a retraining, and their results."""

from typing import Literal

import msgspec

from streams.records.alarms import DriftAlarm
from streams.records.drift_reports import Contribution
from streams.records.field_types import Int64, TimeMs

Trigger = Literal["bootstrap", "drift", "manual", "schedule", "labels", "http"]


class RetrainingRequested(msgspec.Struct, kw_only=True, frozen=True, tag="retraining_requested"):
    """A request for a new model version, with the evidence. ``request_id`` is the same after a replay."""

    request_id: str
    model: str
    trigger: Trigger
    requested_at_ms: TimeMs
    """Event time: the training set holds what was known at this time, and nothing later."""
    reason: str
    evidence: list[DriftAlarm] = []
    offsets: dict[str, list[Int64]] = {}
    """The next offset of each partition at the time of the request, by topic. The training waits until the
    archive holds all records before these offsets."""
    since_ms: TimeMs | None = None
    """Estimated event time at which the change began."""
    train_from_ms: TimeMs | None = None
    """Start of the training set, by event time of the predictions: the time of the change, if enough labels
    have arrived since; null: train on everything. Used if model.yaml declares
    ``retraining.window`` as ``since_change``, or ``auto``."""
    train_to_ms: TimeMs | None = None
    """End of the training set; null: no end."""
    basis: Literal["labels", "estimate"] = "labels"
    """What rose: the loss by labels, or an estimate of the loss that has recently been accurate."""
    contributions: list[Contribution] = []
    """Contributions of the last window, see `DriftReport.contributions`."""


class RetrainingFinished(msgspec.Struct, kw_only=True, frozen=True, tag="retraining_finished"):
    """The result of a retraining: exactly one for each request id (repeats are equal)."""

    request_id: str
    model: str
    trigger: Trigger
    requested_at_ms: TimeMs
    result: Literal["promoted", "passed", "rejected", "failed"]
    """``passed``: a rollout decides whether the candidate becomes the champion; ``rejected``: the candidate
    did not pass a gate; ``failed``: an error."""
    version: Int64
    """The version of the candidate; 0 if none was registered."""
    reasons: list[str] = []
    """Why it was rejected or failed; empty if it was promoted."""
    metrics: dict[str, float] = {}
    rows: Int64 = 0
    run_id: str = ""
    duration_seconds: float = 0.0
    data_tables: dict[str, Int64] = {}
    """The version of each Delta table that a candidate was trained on; the archive keeps their files."""
