"""``driftline alerts``: sent alerts, silences, a test message."""

import secrets
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from services.alerting import destinations, notification_log, webhooks
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
"""Maximum length of a silence, one quarter; to silence alerts longer, remove the route."""
LINES_MAX = 50

For = Annotated[str, Parameter(name="--for")]


def show(*, model: str = "") -> None:
    """Show which alerts were sent where, the latest last, and the active silences.

    Args:
        model: Only alerts of this model.
    """
    found = _read()
    sent = [each for each in found if isinstance(each, Notified) and model in ("", each.alert.model)]
    sent.sort(key=lambda each: each.told_ms)
    say(*map(_line, sent[-LINES_MAX:]), f"{len(sent)} alerts sent, {min(len(sent), LINES_MAX)} shown")
    _show_silences(found)


def silences() -> None:
    """Show the active silences."""
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
    """Do not send matching alerts for a time. Alarms that are still open afterwards are sent then.

    Args:
        model: Only alerts of this model.
        duration: How long: 30m, 4h or 7d.
        reason: Why, for colleagues who read the list later.
        kind: Only alerts of this kind, for example loss or feature.
        subject: Only alerts about this feature, or score, or log_loss.
        segment: Only alerts of this segment, for example origin=EWR.
    """
    known = declaration_file.load_all(Settings().models)
    if model not in known:
        fail(f"{COMMAND}: there is no model {model!r}; known models: {', '.join(known)}")
    if kind and kind not in ALERT_KINDS:
        fail(f"{COMMAND}: --kind {kind!r}: known kinds: {', '.join(ALERT_KINDS)}")
    try:
        length_ms = min(duration_ms(duration), HOURS_MAX * HOUR_MS)
    except ValueError as error:
        fail(f"{COMMAND}: --for: {error}")
    created_ms = now_ms()
    added = Silence(
        silence_id=secrets.token_hex(3),
        until_ms=created_ms + length_ms,
        created_ms=created_ms,
        reason=reason,
        model=model,
        kind=kind,
        subject=subject,
        segment=segment,
    )
    _write(added)
    ok(f"silence {added.silence_id} until {_time(added.until_ms)}")


def end(silence_id: str) -> None:
    """End a silence now.

    Args:
        silence_id: The id that 'driftline alerts silences' shows.
    """
    if silence_id not in {each.silence_id for each in _active(_read())}:
        fail(f"{COMMAND}: there is no active silence {silence_id!r}; see 'driftline alerts silences'")
    _write(silence_id)
    ok(f"silence {silence_id} ended")


def test(destination: str) -> None:
    """Send a test message to a destination now, and show whether it was accepted.

    Args:
        destination: The name in DRIFTLINE_ALERT_DESTINATIONS.
    """
    try:
        urls = destinations.load(Settings())
    except destinations.DestinationsError as error:
        fail(f"{COMMAND}: {error}")
    if destination not in urls:
        known = ", ".join(sorted(urls)) or "none"
        fail(f"{COMMAND}: there is no destination {destination!r}; known destinations: {known}")
    message = Message(
        title="[info] driftline: a test",
        body="Sent by 'driftline alerts test'. Nothing is wrong.",
        severity="info",
        thread="driftline-test",
    )
    try:
        if webhooks.is_webhook(urls[destination]):
            body = {"event_type": "driftline.test", "client_payload": {"title": message.title}}
            webhooks.send(urls[destination], f"driftline-test-{secrets.token_hex(3)}", body)
        else:
            send(urls[destination], message)
    except SendingError as error:
        fail(f"{COMMAND}: {destination}: {error}")
    ok(f"{destination} ({destinations.masked(urls[destination])}) accepted the test message")


def _read() -> list[AlertRecord]:
    """Return the latest record of each key."""
    with failing_on(COMMAND, kafka_consumers.MissingTopicError):
        records_read = kafka_consumers.read_topic(Settings(), "alerts", topics.ALERTS.name)
        latest: dict[bytes, bytes | None] = {record.key: record.value for record in records_read}
    found = [notification_log.decoded(value) for value in latest.values() if value is not None]
    return [record for record in found if record is not None]


def _write(change: Silence | str) -> None:
    """Write a silence, or end the silence with this id."""
    key = notification_log.silence_key(change if isinstance(change, str) else change.silence_id)
    value = None if isinstance(change, str) else records.encode(change)
    with failing_on(COMMAND), kafka_producers.connected(Settings()) as producer:
        producer.send(topics.ALERTS.name, key, value)


def _active(found: Sequence[AlertRecord]) -> list[Silence]:
    """Return the active silences by their end."""
    at_ms = now_ms()
    active = [each for each in found if isinstance(each, Silence) and each.until_ms > at_ms]
    return sorted(active, key=lambda each: (each.until_ms, each.silence_id))


def _show_silences(found: Sequence[AlertRecord]) -> None:
    active = _active(found)
    for each in active:
        about = " ".join(f"{name}={value}" for name, value in _matched(each).items()) or "everything"
        say(f"{each.silence_id}  until {_time(each.until_ms)}  {about}  ({each.reason})")
    say(f"{len(active)} active silences")


_STATE_WORDS = {"told": "sent", "resolved": "resolved", "given_up": "not accepted"}


def _line(sent: Notified) -> str:
    alert, state = sent.alert, _STATE_WORDS[sent.state]
    times = f" ({sent.times} times)" if sent.times > 1 else ""
    return f"{_time(sent.told_ms)}  {sent.destination}  {state}{times}  {alert.model}: {alert.title}"


def _matched(silence: Silence) -> dict[str, str]:
    names: Sequence[str] = ("model", "kind", "subject", "segment")
    return {name: value for name in names if (value := getattr(silence, name))}


def _time(time_ms: int) -> str:
    return (codec.EPOCH + time_ms * codec.MILLISECOND).strftime("%Y-%m-%d %H:%M:%S UTC")
