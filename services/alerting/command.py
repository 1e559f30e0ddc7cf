"""``driftline alerts``: what was told, silences, a test message."""

import secrets
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from services.alerting import destinations, notification_log
from services.alerting.delivery import SendingError, send
from services.alerting.messages import Message
from services.runtime import declaration_file, kafka_consumers, kafka_producers
from services.runtime.command_output import fail, failing_on, ok, say
from services.runtime.declaration import ALERT_KINDS, HOUR_MS
from services.runtime.settings import Settings
from services.runtime.times import duration_ms, now_ms
from streams import codec, records, topics
from streams.records import AlertRecord, Notified, Silence

COMMAND = "driftline alerts"
HOURS_MAX = 24 * 92
"""A silence of more than a season is a route that should not be."""
LINES_MAX = 50

For = Annotated[str, Parameter(name="--for")]


def show(*, model: str = "") -> None:
    """Show who was told of what, the latest last, and the silences that hold.

    Args:
        model: Only of this one.
    """
    found = _read()
    told = [each for each in found if isinstance(each, Notified) and model in ("", each.alert.model)]
    told.sort(key=lambda each: each.told_ms)
    say(*map(_line, told[-LINES_MAX:]), f"{len(told)} alerts were told, {min(len(told), LINES_MAX)} shown")
    _show_silences(found)


def silences() -> None:
    """Show the silences that hold."""
    _show_silences(_read())


def silence(
    *,
    model: str,
    duration: For,
    reason: str,
    kind: str = "",
    subject: str = "",
    segment: str = "",
) -> None:
    """Tell nobody of the alerts that match, until the time is over. What still stands then is told.

    Args:
        model: Of this model.
        duration: How long, as 30m, 4h or 7d.
        reason: For those who wonder later.
        kind: Only of this kind, as loss or feature.
        subject: Only of this feature, or score, or log_loss.
        segment: Only of this segment, as origin=EWR.
    """
    known = declaration_file.load_all(Settings().models)
    if model not in known:
        fail(f"{COMMAND}: there is no model {model!r}; known are {', '.join(known)}")
    if kind and kind not in ALERT_KINDS:
        fail(f"{COMMAND}: --kind {kind!r}: known are {', '.join(ALERT_KINDS)}")
    try:
        lasts_ms = min(duration_ms(duration), HOURS_MAX * HOUR_MS)
    except ValueError as error:
        fail(f"{COMMAND}: --for: {error}")
    created_ms = now_ms()
    made = Silence(
        silence_id=secrets.token_hex(3),
        until_ms=created_ms + lasts_ms,
        created_ms=created_ms,
        reason=reason,
        model=model,
        kind=kind,
        subject=subject,
        segment=segment,
    )
    _write(made)
    ok(f"silence {made.silence_id} until {_time(made.until_ms)}")


def end(silence_id: str) -> None:
    """End a silence now.

    Args:
        silence_id: As 'driftline alerts silences' shows it.
    """
    if silence_id not in {each.silence_id for each in _holding(_read())}:
        fail(f"{COMMAND}: no silence {silence_id!r} holds")
    _write(silence_id)
    ok(f"silence {silence_id} is over")


def test(destination: str) -> None:
    """Send a test message to a destination, at once, and say what became of it.

    Args:
        destination: Its name in DRIFTLINE_ALERT_DESTINATIONS.
    """
    try:
        urls = destinations.load(Settings())
    except destinations.DestinationsError as error:
        fail(f"{COMMAND}: {error}")
    if destination not in urls:
        known = ", ".join(sorted(urls)) or "none"
        fail(f"{COMMAND}: there is no destination {destination!r}; known are {known}")
    message = Message(
        title="[info] driftline: a test",
        body="Sent by 'driftline alerts test'. Nothing is wrong.",
        severity="info",
        thread="driftline-test",
    )
    try:
        send(urls[destination], message)
    except SendingError as error:
        fail(f"{COMMAND}: {destination}: {error}")
    ok(f"{destination} ({destinations.masked(urls[destination])}) has taken a test message")


def _read() -> list[AlertRecord]:
    """Return the latest record of each key."""
    with failing_on(COMMAND, kafka_consumers.MissingTopicError):
        records_read = kafka_consumers.read_topic(Settings(), "alerts", topics.ALERTS.name)
        latest: dict[bytes, bytes | None] = {record.key: record.value for record in records_read}
    found = [notification_log.decoded(value) for value in latest.values() if value is not None]
    return [record for record in found if record is not None]


def _write(change: Silence | str) -> None:
    """Write a silence, or the end of the one with this id."""
    key = notification_log.silence_key(change if isinstance(change, str) else change.silence_id)
    value = None if isinstance(change, str) else records.encode(change)
    with failing_on(COMMAND), kafka_producers.connected(Settings()) as producer:
        producer.send(topics.ALERTS.name, key, value)


def _holding(found: Sequence[AlertRecord]) -> list[Silence]:
    """Return the silences that are not over, those that end first first."""
    at_ms = now_ms()
    holding = [each for each in found if isinstance(each, Silence) and each.until_ms > at_ms]
    return sorted(holding, key=lambda each: (each.until_ms, each.silence_id))


def _show_silences(found: Sequence[AlertRecord]) -> None:
    holding = _holding(found)
    for each in holding:
        about = " ".join(f"{name}={value}" for name, value in _matched(each).items()) or "everything"
        say(f"{each.silence_id}  until {_time(each.until_ms)}  {about}  ({each.reason})")
    say(f"{len(holding)} silences hold")


def _line(told: Notified) -> str:
    alert = told.alert
    times = f" ({told.times} times)" if told.times > 1 else ""
    return f"{_time(told.told_ms)}  {told.destination}  {told.state}{times}  {alert.model}: {alert.title}"


def _matched(silence: Silence) -> dict[str, str]:
    names: Sequence[str] = ("model", "kind", "subject", "segment")
    return {name: value for name in names if (value := getattr(silence, name))}


def _time(time_ms: int) -> str:
    return (codec.EPOCH + time_ms * codec.MILLISECOND).strftime("%Y-%m-%d %H:%M:%S UTC")
