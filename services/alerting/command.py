"""``driftline alerts``: what was told, silences, a test message."""

import functools
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

from cyclopts import Parameter

from services.runtime.settings import Settings

if TYPE_CHECKING:
    from streams.records import AlertRecord, Notified, Silence

ACKNOWLEDGED_SECONDS_MAX = 30
HOURS_MAX = 24 * 92
"""A silence of more than a season is a route that should not be."""
LINES_MAX = 50

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")
For = Annotated[str, Parameter(name="--for")]


def _with_kafka(work: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Turn what may go wrong with Kafka into one line and an exit code."""

    @functools.wraps(work)
    def told(*given: _Given.args, **named: _Given.kwargs) -> _Result:
        from kafka.errors import KafkaError

        try:
            return work(*given, **named)
        except KafkaError as error:
            sys.exit(f"driftline alerts: Kafka: {error}: try 'driftline check --connect'")

    return told


def show(*, model: str = "") -> None:
    """Show who was told of what, the latest last, and the silences that hold.

    Args:
        model: Only of this one.
    """
    from streams.records import Notified

    found = _read()
    told = [each for each in found if isinstance(each, Notified) and model in ("", each.alert.model)]
    told.sort(key=lambda each: each.told_ms)
    _say(*map(_line, told[-LINES_MAX:]), f"{len(told)} alerts were told, {min(len(told), LINES_MAX)} shown")
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
    from services.runtime import declaration_file
    from services.runtime.declaration import ALERT_KINDS, HOUR_MS
    from services.runtime.times import duration_ms
    from streams.records import Silence

    known = declaration_file.load_all(Settings().models)
    if model not in known:
        sys.exit(f"driftline alerts: there is no model {model!r}; known are {', '.join(known)}")
    if kind and kind not in ALERT_KINDS:
        sys.exit(f"driftline alerts: --kind {kind!r}: known are {', '.join(ALERT_KINDS)}")
    try:
        lasts_ms = min(duration_ms(duration), HOURS_MAX * HOUR_MS)
    except ValueError as error:
        sys.exit(f"driftline alerts: --for: {error}")
    now_ms = _now_ms()
    made = Silence(
        silence_id=secrets.token_hex(3),
        until_ms=now_ms + lasts_ms,
        created_ms=now_ms,
        reason=reason,
        model=model,
        kind=kind,
        subject=subject,
        segment=segment,
    )
    _write(made)
    _say(f"ok  silence {made.silence_id} until {_time(made.until_ms)}")


def end(silence_id: str) -> None:
    """End a silence now.

    Args:
        silence_id: As 'driftline alerts silences' shows it.
    """
    if silence_id not in {each.silence_id for each in _holding(_read())}:
        sys.exit(f"driftline alerts: no silence {silence_id!r} holds")
    _write(silence_id)
    _say(f"ok  silence {silence_id} is over")


def test(destination: str) -> None:
    """Send a test message to a destination, at once, and say what became of it.

    Args:
        destination: Its name in DRIFTLINE_ALERT_DESTINATIONS.
    """
    from services.alerting import destinations
    from services.alerting.delivery import SendingError, send
    from services.alerting.messages import Message

    try:
        urls = destinations.load(Settings())
    except destinations.DestinationsError as error:
        sys.exit(f"driftline alerts: {error}")
    if destination not in urls:
        known = ", ".join(sorted(urls)) or "none"
        sys.exit(f"driftline alerts: there is no destination {destination!r}; known are {known}")
    message = Message(
        title="[info] driftline: a test",
        body="Sent by 'driftline alerts test'. Nothing is wrong.",
        severity="info",
        thread="driftline-test",
    )
    try:
        send(urls[destination], message)
    except SendingError as error:
        sys.exit(f"driftline alerts: {destination}: {error}")
    _say(f"ok  {destination} ({destinations.masked(urls[destination])}) has taken a test message")


@_with_kafka
def _read() -> "list[AlertRecord]":
    """Return the latest record of each key."""
    from kafka import TopicPartition

    from services.alerting import notification_log
    from services.runtime import kafka_consumers
    from streams import topics

    latest: dict[bytes, bytes | None] = {}
    place = TopicPartition(topics.ALERTS.name, 0)
    consumer = kafka_consumers.connect(Settings(), "alerts")
    try:
        if not consumer.partitions_for_topic(place.topic):
            sys.exit(f"driftline alerts: there is no topic {place.topic}: run 'driftline setup'")
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        kafka_consumers.read_to_end(consumer, [place], lambda each: latest.update({each.key: each.value}))
    finally:
        consumer.close(timeout_ms=1000)
    found = [notification_log.decoded(value) for value in latest.values() if value is not None]
    return [record for record in found if record is not None]


@_with_kafka
def _write(change: "Silence | str") -> None:
    """Write a silence, or the end of the one with this id."""
    from kafka import KafkaProducer

    from services.alerting import notification_log
    from streams import records, topics

    key = notification_log.silence_key(change if isinstance(change, str) else change.silence_id)
    value = None if isinstance(change, str) else records.encode(change)
    producer = KafkaProducer(**Settings().kafka_options(), acks="all", enable_idempotence=True)
    try:
        producer.send(topics.ALERTS.name, key=key, value=value).get(timeout=ACKNOWLEDGED_SECONDS_MAX)
    finally:
        producer.close(timeout=5)


def _holding(found: "Sequence[AlertRecord]") -> "list[Silence]":
    """Return the silences that are not over, those that end first first."""
    from streams.records import Silence

    now_ms = _now_ms()
    holding = [each for each in found if isinstance(each, Silence) and each.until_ms > now_ms]
    return sorted(holding, key=lambda each: (each.until_ms, each.silence_id))


def _show_silences(found: "Sequence[AlertRecord]") -> None:
    holding = _holding(found)
    for each in holding:
        about = " ".join(f"{name}={value}" for name, value in _matched(each).items()) or "everything"
        _say(f"{each.silence_id}  until {_time(each.until_ms)}  {about}  ({each.reason})")
    _say(f"{len(holding)} silences hold")


def _line(told: "Notified") -> str:
    alert = told.alert
    times = f" ({told.times} times)" if told.times > 1 else ""
    return f"{_time(told.told_ms)}  {told.destination}  {told.state}{times}  {alert.model}: {alert.title}"


def _matched(silence: "Silence") -> dict[str, str]:
    names: Sequence[str] = ("model", "kind", "subject", "segment")
    return {name: value for name in names if (value := getattr(silence, name))}


def _time(time_ms: int) -> str:
    from streams import codec

    return (codec.EPOCH + time_ms * codec.MILLISECOND).strftime("%Y-%m-%d %H:%M:%S UTC")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _say(*lines: str) -> None:
    print("\n".join(lines))  # noqa: T201  # the command's answer
