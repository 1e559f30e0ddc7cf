"""The one reader and the one checked writer of the models topic, for operators, learning and retraining.

Each record holds all arms of a model and replaces the record before it. So a change must be based on the
latest record, or it undoes the change of somebody else. Kafka cannot check that, hence the writer does:

1. read to the end of the topic, and write nothing if somebody else has changed the model since it was read;
2. write, and wait until all in-sync replicas have acknowledged;
3. read to the end again: a change by somebody else that came between steps 1 and 2 is an error as well.

After a crash between the steps the writer repeats them. A change that is written twice is harmless, because
every record holds the complete state.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition

from services.model_registry import model_change
from services.runtime import kafka_consumers, kafka_producers
from services.runtime.settings import Settings
from streams import records, topics
from streams.cloud_events import Envelope
from streams.feature_sets import FeatureSets
from streams.records import ModelChanged

PARTITION = TopicPartition(topics.MODELS.name, 0)
ATTEMPTS_MAX = 5
"""Maximum attempts to write a change that others overtake; each one is based on what they wrote."""

KeyedRecord = tuple[bytes, bytes, list[tuple[str, bytes]]]
"""Key, value, headers; a `streams.producer.Record` with key and value."""
Send = Callable[[Sequence[KeyedRecord]], None]
"""Writes records to `PARTITION` with an idempotent producer; returns when all replicas have acknowledged."""
MakeChanges = Callable[[ModelChanged | None], Sequence[ModelChanged]]
"""Returns the changes of a model that follow from the latest one; none if it needs none."""

_log = structlog.get_logger()


class OvertakenError(RuntimeError):
    """Somebody else has changed the model since it was read. The message says what to do."""


class ModelsTopic:
    """One client of the models topic."""

    def __init__(
        self, consumer: KafkaConsumer, send: Send, *, source: str, cloud_events: bool = False
    ) -> None:
        """Read the topic to its end.

        Args:
            consumer: Used by this client alone.
            send: The producer.
            source: The process that writes, for the CloudEvents headers.
            cloud_events: Whether records get these headers.
        """
        self.latest: dict[str, ModelChanged] = {}
        """The change of each model on which the next one must be based."""
        self.feature_sets: dict[str, FeatureSets] = {}
        """The published names of the features of each model."""
        self._consumer = consumer
        self._send = send
        self._source = source
        self._cloud_events = cloud_events
        consumer.assign([PARTITION])
        consumer.seek_to_beginning(PARTITION)
        self.refresh()

    def refresh(self) -> None:
        """Read what was written since the last read."""
        self._read(ours=frozenset())

    def publish(self, changes: Sequence[ModelChanged]) -> None:
        """Write changes of one model, in order, which are based on `latest`.

        Raises:
            OvertakenError: Somebody else has changed the model before the write, or between the check and the
                write. `latest` is then their change.
        """
        model = changes[0].model
        if theirs := self._read(ours=frozenset()).get(model):
            raise OvertakenError(
                f"nothing was written, because {_described(theirs)}: look at the arms with "
                f"'driftline models list {model}' and try again"
            )
        envelope = Envelope(self._source, model, enabled=self._cloud_events)
        batch: list[KeyedRecord] = [
            (model.encode(), records.encode(change), envelope.headers(change)) for change in changes
        ]
        self._send(batch)
        if theirs := self._read(ours=frozenset(value for _, value, _ in batch)).get(model):
            raise OvertakenError(
                f"the change was written, but is not based on the latest arms, because {_described(theirs)}: "
                f"the later record is in effect; look at the arms with 'driftline models list {model}' and "
                "repeat the change that is missing"
            )

    def publish_on_latest(self, model: str, make: MakeChanges) -> Sequence[ModelChanged]:
        """Write the changes that a model needs, again on top of each change that somebody else makes.

        If theirs needs none, but ours was written after it, theirs is written again: the last record counts.

        Args:
            model: Its name.
            make: Called for the latest change, and again for each later one.

        Returns:
            The changes that are in effect, in order; none if the latest change needed none.

        Raises:
            OvertakenError: Somebody else has changed the model before each of `ATTEMPTS_MAX` writes.
        """
        self.refresh()
        overtaken = False
        for _ in range(ATTEMPTS_MAX):
            latest = self.latest.get(model)
            changes = make(latest)
            is_ours = bool(changes)
            if overtaken and latest is not None:
                changes = changes or [latest]
            if not changes:
                return changes
            try:
                self.publish(changes)
            except OvertakenError:
                overtaken = True
            else:
                return changes if is_ours else []
        raise OvertakenError(
            f"the arms of {model} were changed {ATTEMPTS_MAX} times by somebody else while this change was "
            f"written: look at them with 'driftline models list {model}' and try again"
        )

    def _read(self, ours: frozenset[bytes]) -> dict[str, tuple[int, ModelChanged]]:
        """Read to the end; return the last change of each model by somebody else, with its offset.

        A change by somebody else counts as the latest even if ours comes after it: ours does not include it.
        """
        found: dict[str, tuple[int, ModelChanged]] = {}
        for message in kafka_consumers.read_to_end(self._consumer, [PARTITION]):
            change = _decoded(message)
            if isinstance(change, records.FeatureSet):
                self.feature_sets.setdefault(change.model, FeatureSets()).learn(change)
                continue
            if change is None:
                continue
            if message.value not in ours:
                found[change.model] = message.offset, change
            elif change.model not in found:
                self.latest[change.model] = change
        self.latest.update((model, change) for model, (_, change) in found.items())
        return found


@contextlib.contextmanager
def opened(settings: Settings, source: str = "models", send: Send | None = None) -> Iterator[ModelsTopic]:
    """Connect for the length of the block, and read the topic to its end.

    Args:
        settings: The broker.
        source: See `ModelsTopic`.
        send: A producer; default: one that lives as long as a write.

    Raises:
        MissingTopicError: There is no such topic.
        KafkaError: The broker cannot be reached.
    """
    consumer = kafka_consumers.connect(settings, f"{source}-arms")
    try:
        kafka_consumers.partition_count(consumer, PARTITION.topic)
        yield ModelsTopic(
            consumer,
            send or connected_send(settings),
            source=source,
            cloud_events=settings.cloud_events != "none",
        )
    finally:
        consumer.close(timeout_ms=kafka_consumers.CLOSE_MS)


def read(settings: Settings) -> dict[str, ModelChanged]:
    """Return the latest change of each model; raises as `opened`."""
    with opened(settings) as models:
        return models.latest


def read_model(settings: Settings, model: str) -> tuple[ModelChanged | None, FeatureSets]:
    """Return the latest change of a model, and the published names of its features; raises as `opened`."""
    with opened(settings) as models:
        return models.latest.get(model), models.feature_sets.get(model, FeatureSets())


def feature_sets(settings: Settings, model: str) -> FeatureSets:
    """Return the published names of the features that the predictions of a model hold; raises as `opened`."""
    return read_model(settings, model)[1]


def connected_send(settings: Settings) -> Send:
    """Return a `Send` that connects for each write: changes by hand and promotions are rare."""

    def send(batch: Sequence[KeyedRecord]) -> None:
        with kafka_producers.connected(settings) as producer:
            for key, value, headers in batch:
                producer.send(PARTITION.topic, key, value, headers)

    return send


def _decoded(message: Any) -> records.ModelsRecord | None:
    try:
        return model_change.decode_any(message.value)
    except model_change.InvalidChangeError as error:
        _log.warning("model_change.invalid", offset=message.offset, error=str(error))
        return None


def _described(theirs: tuple[int, ModelChanged]) -> str:
    offset, change = theirs
    return f"somebody else has changed {change.model} since it was read ({change.reason!r}, offset {offset})"
