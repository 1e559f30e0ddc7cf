"""Reads the predictions and labels of all models for a process that keeps its own offsets: drift, learning.

Nothing is committed to a consumer group: a snapshot holds the state together with the offsets of its inputs,
so the two cannot disagree. A reader lives from the last snapshot until Kafka fails or the process ends.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import redis
import structlog
from kafka import KafkaConsumer, TopicPartition
from prometheus_client import Gauge

from services.monitoring.input_topics import InputTopics
from services.runtime import kafka_consumers, times, topic_identity, watermarks
from services.runtime.declaration import ModelDeclaration
from services.runtime.kafka_consumers import partition_count
from services.runtime.recreated_topics import RecreatedTopics
from streams import codec, dead_letters, records, topics
from streams.inputs import LABEL, PREDICTION, PartitionKey, Resume
from streams.producer import Record

POLL_MS = 250
PUBLISH_AGAIN_SECONDS = 5.0
WAITING_RECORDS_MAX = 50_000
"""Maximum records of one partition that wait for other partitions; beyond that the partition is paused. About
50 MB."""

_log = structlog.get_logger()
_HandleSlice = Callable[[Sequence[Any], int], None]
Attempt = Callable[[str, _HandleSlice, Sequence[Any], int], None]
"""Calls the handler of a model with a slice and the time."""


class SliceHandler(Protocol):
    """Handles slices of one partition's records, e.g. `prediction_decoder.PredictionDecoder`."""

    def take_predictions(self, messages: Sequence[codec.KafkaRecord], now_ms: int) -> None:
        """Handle a slice of a predictions topic."""

    def take_labels(self, messages: Sequence[codec.KafkaRecord], now_ms: int) -> None:
        """Handle a slice of a label topic."""


class WaitingInputs(Protocol):
    """The records that wait in memory, e.g. `streams.inputs.Inputs`."""

    def ahead(self, records_max: int) -> set[PartitionKey]:
        """Return the partitions to pause: more of their records wait than this."""

    def resume(self) -> Mapping[PartitionKey, Resume]:
        """Return where to continue in each partition."""


@dataclasses.dataclass(frozen=True)
class PredictionSource:
    """One model's input topics, and the handler of their records."""

    predictions_topic: str
    label_topic: str
    inputs: WaitingInputs
    handler: SliceHandler
    positions: Callable[[], Mapping[PartitionKey, int]]
    """Return the next offset to read, by partition."""

    def topic_of(self, kind: int) -> str:
        """Return the topic of a kind of input."""
        return self.predictions_topic if kind == PREDICTION else self.label_topic


def direct_source(
    predictions_topic: str, label_topic: str, inputs: WaitingInputs, handler: SliceHandler
) -> PredictionSource:
    """Return the source whose topics hold the records themselves."""
    return PredictionSource(
        predictions_topic,
        label_topic,
        inputs,
        handler,
        lambda: {partition: resume.offset for partition, resume in inputs.resume().items()},
    )


class PredictionSourceReader:
    """Reads the inputs of all models with one consumer; models may share a topic."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        """Take a consumer of this reader alone; `follow` says what is read."""
        self._consumer = consumer
        self._sources: dict[str, PredictionSource] = {}
        self._handlers: dict[str, list[tuple[str, _HandleSlice]]] = {}
        self._recreated = RecreatedTopics(consumer)

    def follow(self, sources: Mapping[str, PredictionSource]) -> None:
        """Read these sources, by model: new ones from their positions, the others from where they are.

        A partition that is shared with a new source is read again from the lower position; the other models
        ignore the offsets that they have read.
        """
        new = [each for model, each in sources.items() if self._sources.get(model) is not each]
        remaining = _partitions(each for each in sources.values() if each not in new)
        offsets = _offsets(new)
        for partition in remaining & offsets.keys():
            offsets[partition] = min(offsets[partition], self._consumer.position(partition))
        self._handlers = {}
        for model, source in sources.items():
            taken = (
                (source.predictions_topic, source.handler.take_predictions),
                (source.label_topic, source.handler.take_labels),
            )
            for topic, handle in taken:
                self._handlers.setdefault(topic, []).append((model, handle))
        for topic in {each.topic for each in offsets}:
            self._recreated.note(topic)
        self._consumer.assign(sorted(remaining | offsets.keys()))
        if offsets:
            _report_expired(self._consumer, offsets)
        for partition, offset in offsets.items():
            self._consumer.seek(partition, offset)
        self._sources = dict(sources)  # last: after an error the same sources count as new again

    def read(self, attempt: Attempt) -> bool:
        """Pass one slice of each partition to the handlers; return whether there was one in `POLL_MS`.

        ``attempt`` calls a handler and takes its errors, see `guarded_models.GuardedModels.attempt`.
        """
        if not self._sources:  # a consumer without assigned partitions raises an error
            time.sleep(POLL_MS / 1000)
            return False
        polled = self._consumer.poll(timeout_ms=POLL_MS)
        now_ms = times.now_ms()
        for partition, messages in polled.items():
            for model, handle in self._handlers[partition.topic]:
                attempt(model, handle, messages, now_ms)
        return bool(polled)

    def grown(self) -> list[str]:
        """Return the models with a topic that was recreated, or has more partitions than are read."""
        return [
            model
            for model, source in self._sources.items()
            if any(
                PartitionKey(kind, number) not in source.positions()
                for kind in (PREDICTION, LABEL)
                for number in self._consumer.partitions_for_topic(source.topic_of(kind)) or ()
            )
            or any(self._recreated.has(source.topic_of(kind)) for kind in (PREDICTION, LABEL))
        ]

    def pause_leading_partitions(self) -> None:
        """Pause partitions with many waiting records and resume the others, so that memory stays bounded."""
        leading = {
            TopicPartition(source.topic_of(key.kind), key.partition)
            for source in self._sources.values()
            for key in source.inputs.ahead(WAITING_RECORDS_MAX)
        }
        paused = self._consumer.paused()
        if to_resume := paused - leading:
            self._consumer.resume(*to_resume)
        if to_pause := leading - paused:
            self._consumer.pause(*to_pause)


def _partitions(sources: Iterable[PredictionSource]) -> set[TopicPartition]:
    return {
        TopicPartition(source.topic_of(key.kind), key.partition)
        for source in sources
        for key in source.positions()
    }


def _offsets(sources: Iterable[PredictionSource]) -> dict[TopicPartition, int]:
    """Return the offset to read from; where sources share a partition, the lowest."""
    offsets: dict[TopicPartition, int] = {}
    for source in sources:
        for key, offset in source.positions().items():
            partition = TopicPartition(source.topic_of(key.kind), key.partition)
            offsets[partition] = min(offset, offsets.get(partition, offset))
    return offsets


class WatermarkPublisher:
    """Writes the watermark of one model to Redis whenever it changes."""

    def __init__(self, service: str, model: str, gauge: Gauge) -> None:
        """Publish as ``<service>.<model>``, and as a metric."""
        self._service = service
        self._model = model
        self._gauge = gauge
        self._published_ms: int | None = None
        self._published_seconds = -math.inf

    def publish(self, client: Any, watermark_ms: int | None) -> None:
        """Write the watermark if it has changed; the next call retries a write that failed.

        An unchanged one is written again after a while: Redis may have lost it.
        """
        now_seconds = time.monotonic()
        is_recent = now_seconds - self._published_seconds < PUBLISH_AGAIN_SECONDS
        if watermark_ms is None or (watermark_ms == self._published_ms and is_recent):
            return
        try:
            watermarks.publish_blocking(client, f"{self._service}.{self._model}", watermark_ms)
        except redis.RedisError as error:
            _log.warning(f"{self._service}.watermark_not_published", model=self._model, error=repr(error))
            return
        self._published_ms, self._published_seconds = watermark_ms, now_seconds
        self._gauge.labels(self._model).set(watermark_ms / 1000)


def input_partitions(consumer: KafkaConsumer, declarations: Mapping[str, ModelDeclaration]) -> dict[str, int]:
    """Return the number of partitions of each input topic of these models."""
    return {
        topic: partition_count(consumer, topic)
        for declaration in declarations.values()
        for topic in (topics.predictions(declaration.name), declaration.label.topic)
    }


def input_topics(consumer: KafkaConsumer, declaration: ModelDeclaration) -> InputTopics:
    """Return the input topics of a model as they are now."""
    predictions, labels = topics.predictions(declaration.name), declaration.label.topic
    return InputTopics(
        topic_identity.identity(predictions, kafka_consumers.topic_id(consumer, predictions)),
        topic_identity.identity(labels, kafka_consumers.topic_id(consumer, labels)),
        kafka_consumers.end_offsets(consumer, predictions),
        kafka_consumers.end_offsets(consumer, labels),
    )


def dead_letter_batches(letters: Sequence[records.DeadLetter]) -> dict[tuple[str, int], list[Record]]:
    """Encode dead letters as a batch for their topic; empty without any."""
    batch: list[Record] = [dead_letters.encode(letter) for letter in letters]
    return {(topics.DEAD_LETTERS.name, 0): batch} if batch else {}


def _report_expired(consumer: KafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
    """Log an error if retention deleted records after the snapshot: the totals do not count them."""
    start_offsets = consumer.beginning_offsets(list(offsets))
    for partition, offset in offsets.items():
        if 0 < offset < start_offsets[partition]:
            _log.error(
                "input.lost",
                topic=partition.topic,
                partition=partition.partition,
                records=start_offsets[partition] - offset,
            )
