"""Alerts made from records of the drift, retraining and models topics. Pure."""

from services.model_registry.traffic_split import CHAMPION
from streams.records import (
    Alert,
    Contribution,
    DriftAlarm,
    ModelChanged,
    RetrainingFinished,
    RetrainingRequested,
    Severity,
)

_FINISHED_SEVERITY: dict[str, Severity] = {
    "promoted": "info",
    "passed": "info",
    "rejected": "warning",
    "failed": "critical",
}


def of_alarm(alarm: DriftAlarm, recorded_ms: int) -> Alert:
    """Return the alert of an alarm: critical for harm, else a warning."""
    return Alert(
        alert_id=alarm.alarm_id,
        model=alarm.model,
        kind=alarm.kind,
        severity="critical" if alarm.kind == "loss" else "warning",
        title=alarm.message,
        subject=alarm.subject,
        segment=alarm.segment,
        at_ms=alarm.detected_at_ms,
        since_ms=alarm.since_ms,
        since_from_ms=alarm.since_from_ms,
        since_to_ms=alarm.since_to_ms,
        effect=_effect(alarm),
        stands=True,
        recorded_ms=recorded_ms,
    )


def of_retraining(record: RetrainingRequested | RetrainingFinished, recorded_ms: int) -> Alert:
    """Return the alert of a requested or finished retraining."""
    if isinstance(record, RetrainingRequested):
        severity: Severity = "info"
        what, title = "requested", f"retraining requested ({record.trigger}): {record.reason}"
    else:
        severity, what = _FINISHED_SEVERITY[record.result], record.result
        title = f"retraining {what}, version {record.version}" if record.version else f"retraining {what}"
        title += f": {'; '.join(record.reasons)}" if record.reasons else ""
    return Alert(
        alert_id=f"{record.request_id}-{what}",
        model=record.model,
        kind="retraining",
        severity=severity,
        title=title,
        at_ms=record.requested_at_ms,
        recorded_ms=recorded_ms,
        request_id=record.request_id,
        event=what,
        version=record.version if isinstance(record, RetrainingFinished) else 0,
    )


def of_rollback(before: int | None, change: ModelChanged, recorded_ms: int) -> Alert | None:
    """Return the alert of a change to an earlier champion; None for promotions, reported by retrainings."""
    version = champion_of(change)
    if before is None or version is None or version >= before:
        return None
    return Alert(
        alert_id=f"{change.model}-rollback-{change.changed_at_ms}-{version}",
        model=change.model,
        kind="rollout",
        severity="critical",
        title=f"rolled back from version {before} to {version}: {change.reason}",
        at_ms=change.changed_at_ms,
        recorded_ms=recorded_ms,
    )


def champion_of(change: ModelChanged) -> int | None:
    """Return the version of the champion with the latest start."""
    arms = [arm for arm in change.arms if arm.name == CHAMPION and not arm.segment]
    return max(arms, key=lambda arm: arm.effective_from_ms).version if arms else None


def _effect(alarm: DriftAlarm) -> str:
    if alarm.kind == "loss" and not alarm.detector.startswith("river-"):
        return f"{alarm.subject} {alarm.value:.3f}, {alarm.value - alarm.threshold:+.3f} against its limit"
    parts = []
    if alarm.effect is not None and alarm.kind != "loss":
        parts.append(f"mean rank {alarm.effect:.2f} in the reference (0.50 = no change)")
    if alarm.contributions:
        parts.append(f"mostly {', '.join(map(contributed, alarm.contributions))}")
    return "; ".join(parts)


def contributed(each: Contribution) -> str:
    """Describe what one bin contributes to a change."""
    where = f" where {each.segment}" if each.segment else ""
    return f"{each.feature} {each.bin}{where} ({each.expected_share:.1%} expected, {each.share:.1%} now)"
