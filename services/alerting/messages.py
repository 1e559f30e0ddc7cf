"""One message: what, where, since when, how much it hurts, what to do, and where to see it. Pure."""

import dataclasses
from collections.abc import Sequence

from services.alerting.alert_state import SEVERITIES, Delivery, MessagePart
from services.monitoring import alarm_advice
from streams import codec
from streams.records import Alert, Severity

SHOWN_MAX = 8
"""Alerts told in full; the others are counted."""
TITLE_CHARS_MAX = 200
TEXT_CHARS_MAX = 600
_PREFIXES = {"new": "", "again": "still stands: ", "resolved": "resolved: "}


@dataclasses.dataclass(frozen=True)
class Message:
    """What goes out, in plain text."""

    title: str
    body: str
    severity: Severity | None
    """None: all is well again."""
    thread: str
    """The same for all messages of a model to a destination: an incident there."""


def message(delivery: Delivery, dashboard_url: str = "") -> Message:
    """Write the message of a delivery; links only where the dashboard's address is known."""
    said = sorted(delivery.said, key=_rank)
    first, occasion = said[0], {each.occasion for each in said}
    over = occasion == {"resolved"}
    well = over and not delivery.standing
    severity: Severity = "info" if over else first.alert.severity
    label = "resolved" if over else severity
    title = f"[{label}] {delivery.model}: {first.alert.title}"
    if len(said) > 1:
        title = f"[{label}] {delivery.model}: {len(said)} alerts, first: {first.alert.title}"
    parts = [_paragraph(each) for each in said[:SHOWN_MAX]]
    if len(said) > SHOWN_MAX:
        parts.append(f"and {len(said) - SHOWN_MAX} more: {_counted(said[SHOWN_MAX:])}")
    if not well and delivery.standing:
        parts.append(f"{delivery.standing} alerts of {delivery.model} stand.")
    parts.append(_links(first.alert, dashboard_url, silence=not over))
    return Message(
        title=title[:TITLE_CHARS_MAX],
        body="\n\n".join(filter(None, parts)),
        severity=None if well else severity,
        thread=f"driftline-{delivery.model}-{delivery.destination}",
    )


def _rank(said: MessagePart) -> tuple[bool, int, int, str]:
    severity = SEVERITIES.index(said.alert.severity)
    return said.occasion == "resolved", -severity, said.alert.at_ms, said.alert.alert_id


def _paragraph(said: MessagePart) -> str:
    alert = said.alert
    where = " ".join(filter(None, [alert.subject, alert.segment and f"where {alert.segment}"]))
    lines = [f"{_PREFIXES[said.occasion]}{alarm_advice.headline(alert.kind)}{f' ({where})' if where else ''}"]
    lines.append(f"  what: {alert.title[:TEXT_CHARS_MAX]}")
    lines.append(f"  since: {_since(alert)}; found {_time(alert.at_ms)}")
    if alert.effect:
        lines.append(f"  effect: {alert.effect}")
    if said.occasion != "resolved":
        lines.append(f"  to do: {alarm_advice.advice(alert.kind)}")
    return "\n".join(lines)


def _since(alert: Alert) -> str:
    if alert.since_ms is None:
        return _time(alert.at_ms)
    if alert.since_from_ms is None or alert.since_to_ms is None:
        return _time(alert.since_ms)
    return f"{_time(alert.since_ms)}, between {_time(alert.since_from_ms)} and {_time(alert.since_to_ms)}"


def _counted(said: Sequence[MessagePart]) -> str:
    kinds: dict[str, int] = {}
    for each in said:
        kinds[each.alert.kind] = kinds.get(each.alert.kind, 0) + 1
    return ", ".join(f"{count} of kind {kind}" for kind, count in sorted(kinds.items()))


def _links(alert: Alert, dashboard_url: str, *, silence: bool) -> str:
    lines = []
    if dashboard_url:
        base = dashboard_url.rstrip("/")
        lines = [f"Report: {base}/reports/{alert.model}/{alert.at_ms - 1}", f"Dashboard: {base}/"]
    if silence:
        about = f"--model {alert.model} --kind {alert.kind}"
        lines.append(f"Silence: driftline alerts silence {about} --for 4h --reason WHY")
    return "\n".join(lines)


def _time(time_ms: int) -> str:
    return (codec.EPOCH + time_ms * codec.MILLISECOND).strftime("%Y-%m-%d %H:%M UTC")
