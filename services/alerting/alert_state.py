"""What stands, who was told of it, and who is to be told now. Pure: the time is an argument.

An alert goes once to each destination that a route of its model names. What comes within
``group_seconds`` is one message. What still stands is told again after ``repeat_after_hours``; what was
told and stands no more is told once as resolved. A destination that takes nothing is tried again with
growing pauses, and holds up no other.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

from services.runtime.declaration import HOUR_MS, AlertRoute, Alerts
from streams.records import Alert, Notified, Severity, Silence

ALERTS_MAX = 5000
"""Remembered; those that do not stand, and the oldest of them, fall out first."""
ATTEMPTS_MAX = 8
"""About five minutes of them; then an alert counts as told, and comes again if it stands."""
PAUSE_MS_MIN, PAUSE_MS_MAX = 1000, 120_000
SEVERITIES: Sequence[Severity] = get_args(Severity)
ALL = "all"
"""Among the segments of a route: alarms of no segment."""

ModelDestination = tuple[str, str]
"""A model and a destination: what goes out together."""
Occasion = Literal["new", "again", "resolved"]


@dataclasses.dataclass(frozen=True)
class MessagePart:
    """One alert of a message, and why it is said now."""

    alert: Alert
    occasion: Occasion
    times: int
    """How often it was told before."""


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One message to one destination."""

    model: str
    destination: str
    said: tuple[MessagePart, ...]
    standing: int
    """Alerts told there that stand and are not among those resolved now."""


@dataclasses.dataclass
class _SendSchedule:
    """When a place may be told next."""

    first_ms: int | None = None
    """Since when something waits."""
    retry_ms: int = 0
    attempts: int = 0
    in_flight: bool = False


class AlertState:
    """Remembers alerts by destination, and decides."""

    def __init__(self, declared: Mapping[str, Alerts], *, age_ms_max: float) -> None:
        """Know nothing yet. What is older than ``age_ms_max`` is told to nobody."""
        self._declared = declared
        self._age_ms_max = age_ms_max
        self._alerts: dict[str, Alert] = {}
        """Those that may be told, or stand."""
        self._settled: dict[tuple[str, str], Notified] = {}
        """By destination and alert: what was told."""
        self._ended: set[str] = set()
        """Ids of alarms that were taken back."""
        self._schedules: dict[ModelDestination, _SendSchedule] = {}
        self.silences: dict[str, Silence] = {}
        self.stale_total = 0

    # -- what comes in ---------------------------------------------------------------------------

    def add_alert(self, alert: Alert, now_ms: int) -> None:
        """Take an alert; a repeat changes nothing."""
        if alert.alert_id in self._alerts:
            return
        late_ms = max(now_ms - alert.recorded_ms, alert.recorded_ms - alert.at_ms)
        if late_ms <= self._age_ms_max:
            self._alerts[alert.alert_id] = alert
        else:
            self.stale_total += 1

    def resolve_missing(self, model: str, end_ms: int, standing: Iterable[str]) -> None:
        """Take back the alarms of a model, found up to the end of a window, that its report does not name."""
        named = set(standing)
        for alert in self._alerts.values():
            if (
                alert.stands
                and alert.model == model
                and alert.at_ms <= end_ms
                and alert.alert_id not in named
            ):
                self._ended.add(alert.alert_id)

    def add_notified(self, told: Notified) -> None:
        """Take what was told, by this process or an earlier one."""
        self._settled[told.destination, told.alert.alert_id] = told
        self._alerts.setdefault(told.alert.alert_id, told.alert)
        if told.state == "resolved" and told.alert.stands:
            self._ended.add(told.alert.alert_id)

    # -- what goes out ---------------------------------------------------------------------------

    def due(self, now_ms: int) -> list[Delivery]:
        """Return the messages to send now; each must come back by `delivered` or `failed`."""
        found = []
        for place, said in self._waiting(now_ms).items():
            schedule = self._schedules.setdefault(place, _SendSchedule())
            if schedule.first_ms is None:
                schedule.first_ms = now_ms
            group_ms = self._declared[place[0]].group_seconds * 1000
            if not schedule.in_flight and now_ms >= max(schedule.first_ms + group_ms, schedule.retry_ms):
                schedule.in_flight = True
                found.append(Delivery(*place, tuple(said), self._standing_after(place, said)))
        return found

    def delivered(self, delivery: Delivery, now_ms: int) -> list[Notified]:
        """Settle a message that was taken; return what to keep."""
        self._schedules[delivery.model, delivery.destination] = _SendSchedule()
        return self._settle(delivery, now_ms, given_up=False)

    def failed(self, delivery: Delivery, now_ms: int) -> list[Notified]:
        """Plan another attempt, or give up; return what to keep."""
        schedule = self._schedules[delivery.model, delivery.destination]
        schedule.in_flight = False
        schedule.attempts += 1
        schedule.retry_ms = now_ms + min(PAUSE_MS_MIN << schedule.attempts, PAUSE_MS_MAX)
        if schedule.attempts < ATTEMPTS_MAX:
            return []
        self._schedules[delivery.model, delivery.destination] = _SendSchedule()
        return self._settle(delivery, now_ms, given_up=True)

    def forgotten(self, now_ms: int) -> list[tuple[str, str]]:
        """Forget what cannot come again, and what is too much; return destination and id of what was told."""
        wanted = {alert.alert_id for alert in self._standing() if any(self._routes(alert))}
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
        told = [key for key in self._settled if key[1] in gone]
        for key in told:
            del self._settled[key]
        return told

    def expired(self, now_ms: int) -> list[str]:
        """Forget the silences that are over; return their ids."""
        over = [silence_id for silence_id, each in self.silences.items() if each.until_ms <= now_ms]
        for silence_id in over:
            del self.silences[silence_id]
        return over

    def silenced(self, now_ms: int) -> int:
        """Return how many alerts that stand are silenced."""
        return sum(self._is_silenced(alert, now_ms) for alert in self._standing())

    def standing(self, model: str) -> int:
        """Return how many alerts of a model stand."""
        return sum(alert.model == model for alert in self._standing())

    # -- decisions -------------------------------------------------------------------------------

    def _waiting(self, now_ms: int) -> dict[ModelDestination, list[MessagePart]]:
        waiting: dict[ModelDestination, dict[str, MessagePart]] = {}
        for alert in self._alerts.values():
            if self._is_silenced(alert, now_ms):
                continue
            for route in self._routes(alert):
                said = self._said(alert, route, now_ms)
                if said is not None:  # once, although two routes may lead there
                    waiting.setdefault((alert.model, route.to), {})[alert.alert_id] = said
        for place in self._schedules.keys() - waiting.keys():
            if not self._schedules[place].in_flight:
                del self._schedules[place]
        return {place: list(said.values()) for place, said in waiting.items()}

    def _said(self, alert: Alert, route: AlertRoute, now_ms: int) -> MessagePart | None:
        told = self._settled.get((route.to, alert.alert_id))
        ended = alert.alert_id in self._ended
        if told is None:
            return None if ended else MessagePart(alert, "new", 0)
        if told.state == "resolved" or not alert.stands:
            return None
        if ended:
            return MessagePart(alert, "resolved", told.times)
        repeat_ms = self._declared[alert.model].repeat_after_hours * HOUR_MS
        return MessagePart(alert, "again", told.times) if now_ms - told.told_ms >= repeat_ms else None

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

    def _standing(self) -> list[Alert]:
        return [
            alert for alert in self._alerts.values() if alert.stands and alert.alert_id not in self._ended
        ]

    def _standing_after(self, place: ModelDestination, said: Sequence[MessagePart]) -> int:
        told = {each.alert.alert_id for each in said if each.occasion != "resolved" and each.alert.stands}
        told |= {
            alert_id
            for (destination, alert_id), known in self._settled.items()
            if destination == place[1] and known.alert.model == place[0] and known.alert.stands
        }
        return len(told & {alert.alert_id for alert in self._standing()})

    def _settle(self, delivery: Delivery, now_ms: int, *, given_up: bool) -> list[Notified]:
        kept = []
        for said in delivery.said:
            resolved = said.occasion == "resolved" or not said.alert.stands
            told = Notified(
                destination=delivery.destination,
                alert=said.alert,
                state="resolved" if resolved else "given_up" if given_up else "told",
                told_ms=now_ms,
                times=said.times + (not given_up),
            )
            self.add_notified(told)
            kept.append(told)
        return kept


def matches(silence: Silence, alert: Alert) -> bool:
    """Tell whether a silence is about an alert."""
    wanted = (silence.model, silence.kind, silence.subject, silence.segment)
    given = (alert.model, alert.kind, alert.subject, alert.segment)
    return all(want in ("", have) for want, have in zip(wanted, given, strict=True))
