"""The life of a process that joins predictions with labels and keeps its own offsets: drift, learning.

Nothing is committed to a consumer group: a snapshot holds the state with the offsets of its inputs, so
the two cannot disagree. One session lasts from the last snapshot until Kafka fails or the process ends.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import redis
import structlog
from kafka import KafkaConsumer, TopicPartition
from prometheus_client import Gauge

from services.runtime import watermarks
from services.runtime.declaration import ModelDeclaration
from services.runtime.kafka_consumers import partition_count
from streams import codec, records, topics
from streams.inputs import PREDICTION, Inputs, PartitionKey
from streams.producer import Record

POLL_MS = 250
WAITING_RECORDS_MAX = 50_000
"""Of one partition, while others are behind; beyond that it is paused. About 50 MB."""

_log = structlog.get_logger()
_HandleSlice = Callable[[Sequence[Any], int], None]


class SliceHandler(Protocol):
    """Handles the records of one partition, e.g. `prediction_decoder.PredictionDecoder`."""

    def take_predictions(self, messages: Sequence[codec.KafkaRecord], now_ms: int) -> None:
        """Take a slice of the predictions."""

    def take_labels(self, messages: Sequence[codec.KafkaRecord], now_ms: int) -> None:
        """Take a slice of the labels."""


@dataclasses.dataclass(frozen=True)
class PredictionSource:
    """One model's inputs: what is read, and what takes it."""

    predictions_topic: str
    label_topic: str
    inputs: Inputs
    feed: SliceHandler
    positions: Callable[[], Mapping[PartitionKey, int]]
    """Where to go on reading in these topics."""

    def topic_of(self, kind: int) -> str:
        """Name the topic of an input."""
        return self.predictions_topic if kind == PREDICTION else self.label_topic


def direct_source(
    predictions_topic: str, label_topic: str, inputs: Inputs, feed: SliceHandler
) -> PredictionSource:
    """Return the source whose topics hold the records themselves."""
    return PredictionSource(
        predictions_topic,
        label_topic,
        inputs,
        feed,
        lambda: {place: at.offset for place, at in inputs.resume().items()},
    )


class PredictionSourceReader:
    """Reads the inputs of all models with one consumer; models may share a topic."""

    def __init__(self, consumer: KafkaConsumer, sources: Sequence[PredictionSource]) -> None:
        """Stand where the inputs were left off."""
        self._consumer = consumer
        self._sources = sources
        self._takers: dict[str, list[_HandleSlice]] = {}
        for source in sources:
            self._takers.setdefault(source.predictions_topic, []).append(source.feed.take_predictions)
            self._takers.setdefault(source.label_topic, []).append(source.feed.take_labels)
        offsets = self._offsets()
        consumer.assign(list(offsets))
        _tell_of_lost(consumer, offsets)
        for place, offset in offsets.items():
            consumer.seek(place, offset)

    def read(self) -> bool:
        """Hand one slice to the feeds and tell whether there was one; return after a while without."""
        if not self._sources:  # nothing is assigned, which a consumer takes for an error
            time.sleep(POLL_MS / 1000)
            return False
        polled = self._consumer.poll(timeout_ms=POLL_MS)
        now_ms = time.time_ns() // 1_000_000
        for place, messages in polled.items():
            for take in self._takers[place.topic]:
                take(messages, now_ms)
        return bool(polled)

    def pause_leading_partitions(self) -> None:
        """Read no further where much is waiting already: memory stays bounded while others catch up."""
        ahead = {
            TopicPartition(source.topic_of(place.kind), place.partition)
            for source in self._sources
            for place in source.inputs.ahead(WAITING_RECORDS_MAX)
        }
        paused = self._consumer.paused()
        if resumed := paused - ahead:
            self._consumer.resume(*resumed)
        if stopped := ahead - paused:
            self._consumer.pause(*stopped)

    def _offsets(self) -> dict[TopicPartition, int]:
        offsets: dict[TopicPartition, int] = {}
        for source in self._sources:
            for place, offset in source.positions().items():
                partition = TopicPartition(source.topic_of(place.kind), place.partition)
                offsets[partition] = min(offset, offsets.get(partition, offset))
        return offsets


class WatermarkPublisher:
    """The watermark of one model, written to Redis when it has risen."""

    def __init__(self, service: str, model: str, gauge: Gauge) -> None:
        """Take its name and the metric that shows it."""
        self._service = service
        self._model = model
        self._gauge = gauge
        self._published_ms: int | None = None

    def publish(self, client: Any, watermark_ms: int | None) -> None:
        """Write it, unless that stands already; what fails is tried again with the next call."""
        if watermark_ms is None or watermark_ms == self._published_ms:
            return
        try:
            watermarks.publish_blocking(client, f"{self._service}.{self._model}", watermark_ms)
        except redis.RedisError as error:
            _log.warning(f"{self._service}.watermark_not_published", model=self._model, error=repr(error))
            return
        self._published_ms = watermark_ms
        self._gauge.labels(self._model).set(watermark_ms / 1000)


def input_partitions(consumer: KafkaConsumer, declarations: Mapping[str, ModelDeclaration]) -> dict[str, int]:
    """Return the partitions of each input topic of these models, by name."""
    return {
        topic: partition_count(consumer, topic)
        for declaration in declarations.values()
        for topic in (topics.predictions(declaration.name), declaration.label.topic)
    }


def _tell_of_lost(consumer: KafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
    """Say loudly when records between snapshot and now have been deleted: totals then miss them."""
    begins = consumer.beginning_offsets(list(offsets))
    for place, offset in offsets.items():
        if 0 < offset < begins[place]:
            _log.error(
                "input.lost", topic=place.topic, partition=place.partition, records=begins[place] - offset
            )


def dead_letter_batches(letters: Sequence[records.DeadLetter]) -> dict[tuple[str, int], list[Record]]:
    """Encode the records that could not be read."""
    batch: list[Record] = [(letter.topic.encode(), records.encode(letter), []) for letter in letters]
    return {(topics.DEAD_LETTERS.name, 0): batch} if batch else {}
