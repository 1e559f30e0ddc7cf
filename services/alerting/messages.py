"""The text of a message: what, where, since when, how much it hurts, what to do, where to see it. Pure."""

import dataclasses
from collections.abc import Sequence

from services.alerting.alert_state import SEVERITIES, Delivery, MessagePart
from services.monitoring import alarm_advice
from streams import codec
from streams.records import Alert, Severity

SHOWN_MAX = 8
"""Maximum alerts shown in full; further ones are counted by kind."""
TITLE_CHARS_MAX = 200
TEXT_CHARS_MAX = 600
_PREFIXES = {"new": "", "again": "still open: ", "resolved": "resolved: "}


@dataclasses.dataclass(frozen=True)
class Message:
    """A message in plain text."""

    title: str
    body: str
    severity: Severity | None
    """None: no alert is open any more."""
    thread: str
    """The same for all messages of a model to a destination; PagerDuty keeps one incident per thread."""


def message(delivery: Delivery, dashboard_url: str = "") -> Message:
    """Write the message of a delivery; with links if the dashboard's address is known."""
    parts = sorted(delivery.parts, key=_rank)
    first, occasions = parts[0], {each.occasion for each in parts}
    only_resolved = occasions == {"resolved"}
    all_closed = only_resolved and not delivery.open_count
    severity: Severity = "info" if only_resolved else first.alert.severity
    label = "resolved" if only_resolved else severity
    title = f"[{label}] {delivery.model}: {first.alert.title}"
    if len(parts) > 1:
        title = f"[{label}] {delivery.model}: {len(parts)} alerts, first: {first.alert.title}"
    paragraphs = [_paragraph(each) for each in parts[:SHOWN_MAX]]
    if len(parts) > SHOWN_MAX:
        paragraphs.append(f"and {len(parts) - SHOWN_MAX} more: {_counted(parts[SHOWN_MAX:])}")
    if not all_closed and delivery.open_count:
        paragraphs.append(f"{delivery.open_count} alerts of {delivery.model} are open.")
    paragraphs.append(_links(first.alert, dashboard_url, silence=not only_resolved))
    return Message(
        title=title[:TITLE_CHARS_MAX],
        body="\n\n".join(filter(None, paragraphs)),
        severity=None if all_closed else severity,
        thread=f"driftline-{delivery.model}-{delivery.destination}",
    )


def _rank(part: MessagePart) -> tuple[bool, int, int, str]:
    severity = SEVERITIES.index(part.alert.severity)
    return part.occasion == "resolved", -severity, part.alert.at_ms, part.alert.alert_id


def _paragraph(part: MessagePart) -> str:
    alert = part.alert
    where = " ".join(filter(None, [alert.subject, alert.segment and f"where {alert.segment}"]))
    lines = [f"{_PREFIXES[part.occasion]}{alarm_advice.headline(alert.kind)}{f' ({where})' if where else ''}"]
    lines.append(f"  what: {alert.title[:TEXT_CHARS_MAX]}")
    lines.append(f"  since: {_since(alert)}; detected {_time(alert.at_ms)}")
    if alert.effect:
        lines.append(f"  effect: {alert.effect}")
    if part.occasion != "resolved":
        lines.append(f"  to do: {alarm_advice.advice(alert.kind)}")
    return "\n".join(lines)


def _since(alert: Alert) -> str:
    if alert.since_ms is None:
        return _time(alert.at_ms)
    if alert.since_from_ms is None or alert.since_to_ms is None:
        return _time(alert.since_ms)
    return f"{_time(alert.since_ms)}, between {_time(alert.since_from_ms)} and {_time(alert.since_to_ms)}"


def _counted(parts: Sequence[MessagePart]) -> str:
    kinds: dict[str, int] = {}
    for each in parts:
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
