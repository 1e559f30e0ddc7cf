"""The models topic for those who change it: read to its end, and written behind what was read."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from services.runtime.settings import Settings
from streams import records, topics
from streams.cloud_events import Envelope
from streams.records import ModelChanged

ACKNOWLEDGED_SECONDS_MAX = 30
SILENCE_POLLS_MAX = 60
POLL_MS = 500


class PublishingError(RuntimeError):
    """The models topic cannot be read, or somebody else has written to it. The message says what to do."""


@dataclasses.dataclass(frozen=True)
class State:
    """What the topic held when it was read."""

    latest: Mapping[str, ModelChanged]
    end_offset: int


def read(settings: Settings) -> State:
    """Return the latest change of each model."""
    latest, end = {}, 0
    for offset, change in _changes(settings, 0):
        end = offset + 1
        if change is not None:
            latest[change.model] = change
    return State(latest, end)


def is_learned(settings: Settings, model: str, version: int) -> bool:
    """Tell whether a version of a model that learns online is still there to be loaded."""
    from kafka import TopicPartition

    from services.model_registry import learned_versions
    from services.runtime import kafka_consumers

    key = learned_versions.key(model, version)
    consumer = kafka_consumers.connect(settings, "arms")
    try:
        found = kafka_consumers.latest_values(consumer, TopicPartition(topics.LEARNED.name, 0), [key])
    finally:
        consumer.close()
    decode = records.decoder_of(records.LearnedModel).decode
    return key in found and decode(found[key][1]).version == version


def publish(settings: Settings, change: ModelChanged, state: State) -> int:
    """Write a change that is based on a state; return its offset.

    Raises:
        PublishingError: Somebody else has changed the model since, before this was written or just after.
    """
    if overtaking := _others(settings, change.model, state.end_offset):
        raise PublishingError(f"nothing was written: meanwhile {overtaking}; look at the arms and try again")
    offset = _send(settings, change)
    if overtaking := _others(settings, change.model, state.end_offset, except_offset=offset):
        raise PublishingError(
            f"the change was written, but is not based on the latest arms, as meanwhile {overtaking}; the "
            "later record holds: look at the arms and repeat what is missing"
        )
    return offset


def _send(settings: Settings, change: ModelChanged) -> int:
    from kafka import KafkaProducer

    headers = Envelope("models", change.model, enabled=settings.cloud_events != "none").headers(change)
    producer = KafkaProducer(**settings.kafka_options(), acks="all", enable_idempotence=True)
    try:
        future = producer.send(
            topics.MODELS.name, key=change.model.encode(), value=records.encode(change), headers=headers
        )
        return int(future.get(timeout=ACKNOWLEDGED_SECONDS_MAX).offset)
    finally:
        producer.close(timeout=5)


def _others(settings: Settings, model: str, start: int, except_offset: int = -1) -> str | None:
    """Tell which change of a model others have written from an offset on."""
    for offset, change in _changes(settings, start):
        if change is not None and change.model == model and offset != except_offset:
            return f"{model} was changed by another ({change.reason!r}, offset {offset})"
    return None


def _changes(settings: Settings, start: int) -> Iterator[tuple[int, ModelChanged | None]]:
    """Yield offset and change, None for what is none, up to the end at the time of this call."""
    from kafka import KafkaConsumer, TopicPartition

    place = TopicPartition(topics.MODELS.name, 0)
    consumer = KafkaConsumer(
        **settings.kafka_options(), allow_auto_create_topics=False, enable_auto_commit=False
    )
    try:
        if not consumer.partitions_for_topic(place.topic):
            raise PublishingError(f"there is no topic {place.topic}: run 'driftline setup'")
        consumer.assign([place])
        end = consumer.end_offsets([place])[place]
        consumer.seek(place, max(start, consumer.beginning_offsets([place])[place]))
        polls = 0
        while consumer.position(place) < end:
            found = consumer.poll(timeout_ms=POLL_MS).get(place, ())
            yield from ((record.offset, _decoded(record)) for record in found)
            polls = 0 if found else polls + 1
            if polls > SILENCE_POLLS_MAX:
                raise PublishingError(f"{place.topic} fell silent before its end")
    finally:
        consumer.close()


def _decoded(record: Any) -> ModelChanged | None:
    try:
        return records.decoder_of(ModelChanged).decode(record.value) if record.value else None
    except ValueError:
        return None  # scoring leaves it out, too, and says so
