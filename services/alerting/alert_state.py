"""Open alerts, what was sent to whom, and what to send now. Pure: the time is an argument.

An alert is sent once to each destination that a route of its model names. Alerts within ``group_seconds``
form one message. An open alert is sent again after ``repeat_after_hours``. An alert that was sent and is
resolved is sent once more as resolved. A failing destination is retried with a growing back-off and does not
delay other destinations. A webhook gets each alert by itself, at once, until it accepts it.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

from services.runtime.declaration import HOUR_MS, AlertRoute, Alerts
from streams.records import Alert, Notified, Severity, Silence

ALERTS_MAX = 5000
"""Maximum alerts kept in memory; alerts that are not open are dropped first, the oldest before the others."""
ATTEMPTS_MAX = 8
"""Maximum attempts, about five minutes; then the alert counts as sent and is repeated if it is still open."""
PAUSE_MS_MIN, PAUSE_MS_MAX = 1000, 120_000
WEBHOOK_CALLS_MAX = 8
"""Maximum calls of one webhook at once; each has a thread."""
SEVERITIES: Sequence[Severity] = get_args(Severity)
ALL = "all"
"""Entry in the segments of a route that matches alarms without a segment."""

MessageKey = tuple[str, str, str]
"""A model, a destination, and the alert if it is a message of its own; otherwise ''."""
Occasion = Literal["new", "again", "resolved"]


@dataclasses.dataclass(frozen=True)
class MessagePart:
    """One alert of a message, and why it is sent now."""

    alert: Alert
    occasion: Occasion
    times: int
    """Number of earlier notifications."""


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One message to one destination."""

    model: str
    destination: str
    parts: tuple[MessagePart, ...]
    open_count: int
    """Open alerts that this destination knows, without those that this message resolves."""


@dataclasses.dataclass
class _SendSchedule:
    """When a message of one model to one destination may be sent next."""

    first_ms: int | None = None
    """When the oldest waiting alert arrived."""
    retry_ms: int = 0
    attempts: int = 0
    in_flight: bool = False


class AlertState:
    """Keeps alerts and notifications, and decides what to send."""

    def __init__(
        self, declared: Mapping[str, Alerts], *, age_ms_max: float, webhooks: Collection[str] = ()
    ) -> None:
        """Start empty. Alerts older than ``age_ms_max`` are not sent.

        The destinations ``webhooks`` get one alert a message, and are tried until an alert is that old.
        """
        self._declared = declared
        self._webhooks = frozenset(webhooks)
        self._age_ms_max = age_ms_max
        self._alerts: dict[str, Alert] = {}
        """Alerts that are open or may be sent."""
        self._notified: dict[tuple[str, str], Notified] = {}
        """The latest notification by destination and alert id."""
        self._ended: set[str] = set()
        """Ids of resolved alarms."""
        self._schedules: dict[MessageKey, _SendSchedule] = {}
        self.silences: dict[str, Silence] = {}
        self.stale_total = 0

    # -- input -----------------------------------------------------------------------------------

    def add_alert(self, alert: Alert, now_ms: int) -> None:
        """Add an alert; a repeat changes nothing."""
        if alert.alert_id in self._alerts:
            return
        late_ms = max(now_ms - alert.recorded_ms, alert.recorded_ms - alert.at_ms)
        if late_ms <= self._age_ms_max:
            self._alerts[alert.alert_id] = alert
        else:
            self.stale_total += 1

    def resolve_missing(self, model: str, end_ms: int, open_ids: Iterable[str]) -> None:
        """Resolve the alarms of a model detected up to a window's end whose ids its report does not list."""
        named = set(open_ids)
        for alert in self._alerts.values():
            if (
                alert.stands
                and alert.model == model
                and alert.at_ms <= end_ms
                and alert.alert_id not in named
            ):
                self._ended.add(alert.alert_id)

    def add_notified(self, notified: Notified) -> None:
        """Record a notification of this process or of an earlier one."""
        self._notified[notified.destination, notified.alert.alert_id] = notified
        self._alerts.setdefault(notified.alert.alert_id, notified.alert)
        if notified.state == "resolved" and notified.alert.stands:
            self._ended.add(notified.alert.alert_id)

    # -- output ----------------------------------------------------------------------------------

    def due(self, now_ms: int) -> list[Delivery]:
        """Return the messages to send now; report the result of each with `delivered` or `failed`."""
        found = []
        for target, parts in self._waiting(now_ms).items():
            schedule = self._schedules.setdefault(target, _SendSchedule())
            if schedule.first_ms is None:
                schedule.first_ms = now_ms
            model, destination, alert_id = target
            group_ms = 0 if alert_id else self._declared[model].group_seconds * 1000
            is_due = not schedule.in_flight and now_ms >= max(schedule.first_ms + group_ms, schedule.retry_ms)
            if is_due and (not alert_id or self._calls_in_flight(destination) < WEBHOOK_CALLS_MAX):
                schedule.in_flight = True
                found.append(Delivery(model, destination, tuple(parts), self._open_after(target, parts)))
        return found

    def delivered(self, delivery: Delivery, now_ms: int) -> list[Notified]:
        """Record that a message was accepted; return the notifications to store."""
        self._schedules[self._key_of(delivery)] = _SendSchedule()
        return self._settled(delivery, now_ms, given_up=False)

    def failed(self, delivery: Delivery, now_ms: int) -> list[Notified]:
        """Plan another attempt, or give up, which a webhook never does; return the notifications to store."""
        schedule = self._schedules[self._key_of(delivery)]
        schedule.in_flight = False
        schedule.attempts += 1
        schedule.retry_ms = now_ms + min(PAUSE_MS_MIN << min(schedule.attempts, ATTEMPTS_MAX), PAUSE_MS_MAX)
        if schedule.attempts < ATTEMPTS_MAX or delivery.destination in self._webhooks:
            return []
        self._schedules[self._key_of(delivery)] = _SendSchedule()
        return self._settled(delivery, now_ms, given_up=True)

    def forgotten(self, now_ms: int) -> list[tuple[str, str]]:
        """Drop alerts that cannot repeat or exceed the maximum; return (destination, alert id) of each."""
        wanted = {alert.alert_id for alert in self._open() if any(self._routes(alert))}
        oldest = sorted(self._alerts.values(), key=lambda each: (each.alert_id in wanted, each.recorded_ms))
        too_many = len(oldest) - ALERTS_MAX
        gone = {
            alert.alert_id
            for number, alert in enumerate(oldest)
            if number < too_many
            or (alert.alert_id not in wanted and now_ms - alert.recorded_ms > self._age_ms_max + HOUR_MS)
        }
        for alert_id in gone:
            del self._alerts[alert_id]
        self._ended -= gone
        dropped = [key for key in self._notified if key[1] in gone]
        for key in dropped:
            del self._notified[key]
        return dropped

    def expired(self, now_ms: int) -> list[str]:
        """Drop the silences that have ended; return their ids."""
        over = [silence_id for silence_id, each in self.silences.items() if each.until_ms <= now_ms]
        for silence_id in over:
            del self.silences[silence_id]
        return over

    def silenced(self, now_ms: int) -> int:
        """Return the number of open alerts that are silenced."""
        return sum(self._is_silenced(alert, now_ms) for alert in self._open())

    def open_count(self, model: str) -> int:
        """Return the number of open alerts of a model."""
        return sum(alert.model == model for alert in self._open())

    # -- decisions -------------------------------------------------------------------------------

    def _calls_in_flight(self, destination: str) -> int:
        return sum(each.in_flight for key, each in self._schedules.items() if key[1] == destination)

    def _key_of(self, delivery: Delivery) -> MessageKey:
        return self._key(delivery.model, delivery.destination, delivery.parts[0].alert.alert_id)

    def _key(self, model: str, destination: str, alert_id: str) -> MessageKey:
        return model, destination, alert_id if destination in self._webhooks else ""

    def _waiting(self, now_ms: int) -> dict[MessageKey, list[MessagePart]]:
        waiting: dict[MessageKey, dict[str, MessagePart]] = {}
        for alert in self._alerts.values():
            if self._is_silenced(alert, now_ms):
                continue
            for route in self._routes(alert):
                part = self._part(alert, route, now_ms)
                if part is not None:  # once, even if two routes name this destination
                    key = self._key(alert.model, route.to, alert.alert_id)
                    waiting.setdefault(key, {})[alert.alert_id] = part
        for target in self._schedules.keys() - waiting.keys():
            if not self._schedules[target].in_flight:
                del self._schedules[target]
        return {target: list(parts.values()) for target, parts in waiting.items()}

    def _part(self, alert: Alert, route: AlertRoute, now_ms: int) -> MessagePart | None:
        last = self._notified.get((route.to, alert.alert_id))
        ended = alert.alert_id in self._ended
        if last is None:
            return None if ended else MessagePart(alert, "new", 0)
        if last.state == "resolved" or not alert.stands:
            return None
        if ended:
            return MessagePart(alert, "resolved", last.times)
        repeat_ms = self._declared[alert.model].repeat_after_hours * HOUR_MS
        return MessagePart(alert, "again", last.times) if now_ms - last.told_ms >= repeat_ms else None

    def _routes(self, alert: Alert) -> Iterator[AlertRoute]:
        declared = self._declared.get(alert.model)
        for route in declared.routes if declared else ():
            if (
                (not route.kinds or alert.kind in route.kinds)
                and SEVERITIES.index(alert.severity) >= SEVERITIES.index(route.minimum_severity)
                and (not route.segments or (alert.segment or ALL) in route.segments)
            ):
                yield route

    def _is_silenced(self, alert: Alert, now_ms: int) -> bool:
        return any(
            now_ms < silence.until_ms and matches(silence, alert) for silence in self.silences.values()
        )

    def _open(self) -> list[Alert]:
        return [
            alert for alert in self._alerts.values() if alert.stands and alert.alert_id not in self._ended
        ]

    def _open_after(self, target: MessageKey, parts: Sequence[MessagePart]) -> int:
        known = {each.alert.alert_id for each in parts if each.occasion != "resolved" and each.alert.stands}
        known |= {
            alert_id
            for (destination, alert_id), last in self._notified.items()
            if destination == target[1] and last.alert.model == target[0] and last.alert.stands
        }
        return len(known & {alert.alert_id for alert in self._open()})

    def _settled(self, delivery: Delivery, now_ms: int, *, given_up: bool) -> list[Notified]:
        stored = []
        for part in delivery.parts:
            resolved = part.occasion == "resolved" or not part.alert.stands
            notified = Notified(
                destination=delivery.destination,
                alert=part.alert,
                state="resolved" if resolved else "given_up" if given_up else "told",
                told_ms=now_ms,
                times=part.times + (not given_up),
            )
            self.add_notified(notified)
            stored.append(notified)
        return stored


def matches(silence: Silence, alert: Alert) -> bool:
    """Tell whether a silence covers an alert."""
    wanted = (silence.model, silence.kind, silence.subject, silence.segment)
    given = (alert.model, alert.kind, alert.subject, alert.segment)
    return all(want in ("", have) for want, have in zip(wanted, given, strict=True))
