"""A gathering worker: reads a share of the partitions, decodes and checks records, writes them as slices.

Delivery, for each batch that is read from the source:

1. decode it; write the dead letters and wait until they are acknowledged;
2. write the decoded records as slices, into the same partition number, and wait;
3. commit the offsets to the consumer group.

The worker keeps no other state. After a crash or a rebalance, and from a worker that hung and continues,
slices may repeat and overlap, but there is never a gap before a slice: it covers the records from an offset
that was committed, hence written. The reader takes each offset once. Dead letters may repeat. A topic that
was deleted and recreated is read from its start.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition

from services.drift.gathered_slices import Slicer
from services.monitoring import prediction_source
from services.monitoring.prediction_decoder import PredictionDecoder
from services.runtime import kafka_consumers, metrics, schema_registry_client, times
from services.runtime.declaration import ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.event_clock import EventClock
from services.runtime.kafka_outbox import Outbox
from services.runtime.quarantine import Quarantine
from services.runtime.recreated_topics import RecreatedTopics
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import topics
from streams.inputs import LABEL, PREDICTION
from streams.producer import Record
from streams.schemas import SchemaRegistry

GROUP = "driftline-drift-gather"
"""The consumer group of all gathering workers."""

_log = structlog.get_logger()


@contextlib.contextmanager
def open_session(
    settings: Settings, folder: DeclarationFolder, quarantine: Quarantine, stopping: threading.Event
) -> Iterator["GatherSession"]:
    """Connect, join the consumer group, and leave it at the end of the block."""
    with contextlib.ExitStack() as stack:
        registry, now_seconds = schema_registry_client.connect(settings), time.monotonic()
        quarantine.declare(folder.valid, folder.faults, now_seconds)
        opened = [
            quarantine.open(name, now_seconds, _open_model, settings, declaration, registry)
            for name, declaration in folder.valid.items()
        ]
        gatherers = [each for each in opened if each is not None]
        for each in gatherers:
            quarantine.works(each.model, now_seconds)
        consumer = kafka_consumers.connect_member(settings, "drift-gather", GROUP)
        stack.callback(consumer.close, timeout_ms=kafka_consumers.CLOSE_MS)
        outbox = Outbox("drift", settings.kafka_options(), stopping)
        stack.callback(outbox.close)
        yield GatherSession(consumer, outbox, gatherers)


def _open_model(
    settings: Settings, declaration: ModelDeclaration, registry: SchemaRegistry | None
) -> "ModelGatherer":
    ensure_topics(settings, {declaration.name: declaration}, sliced=True)
    return ModelGatherer(declaration, registry, EventClock("drift", settings.event_ahead_seconds_max))


class ModelGatherer:
    """The decoder of one model, and the topics of its slices."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        registry: SchemaRegistry | None,
        clock: EventClock | None = None,
    ) -> None:
        self.model = declaration.name
        self.sources = {
            topics.predictions(declaration.name): PREDICTION,
            declaration.label.topic: LABEL,
        }
        self._targets = {
            PREDICTION: topics.prediction_slices(declaration.name),
            LABEL: topics.label_slices(declaration.name),
        }
        self.slicer = Slicer()
        self._decoder = PredictionDecoder("drift", declaration, self.slicer, registry, clock=clock)

    def take(
        self, source: TopicPartition, start: int, messages: Sequence[Any], now_ms: int
    ) -> tuple[tuple[str, int], list[Record]]:
        """Return the slices of messages of one partition, with the topic and partition that they go to."""
        kind = self.sources[source.topic]
        take = self._decoder.take_predictions if kind == PREDICTION else self._decoder.take_labels
        take(messages, now_ms)
        slices = self.slicer.take_slices(kind, start, messages[-1].offset + 1)
        return (self._targets[kind], source.partition), [(None, each, []) for each in slices]


class GatherSession(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Reads, decodes, writes, and commits the offsets."""

    def __init__(self, consumer: KafkaConsumer, outbox: Outbox, models: Sequence[ModelGatherer]) -> None:
        """Subscribe to the inputs of the models, which may share a topic."""
        self._consumer = consumer
        self._recreated = RecreatedTopics(consumer)
        self._outbox = outbox
        self._gatherers = models
        self._models: dict[str, list[ModelGatherer]] = {}
        for each in models:
            for topic in each.sources:
                self._models.setdefault(topic, []).append(each)
        self._next: dict[TopicPartition, int] = {}
        """Offset after the last record written, by partition of the current assignment."""
        if self._models:
            consumer.subscribe(sorted(self._models), listener=self)

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Do nothing: each step ends with its commit, so nothing is pending."""

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Continue at the committed offsets of the group."""
        self._next.clear()
        _log.info("drift.gathering", partitions=sorted(f"{each.topic}/{each.partition}" for each in assigned))

    def step(self) -> None:
        """Process one batch; without one, return after the poll timeout."""
        if not self._models:  # polling without a subscription is an error
            time.sleep(prediction_source.POLL_MS / 1000)
            return
        polled = self._of_known_topics(self._consumer.poll(timeout_ms=prediction_source.POLL_MS))
        if not polled:
            return
        now_ms = times.now_ms()
        stage: dict[tuple[str, int], list[Record]] = {}
        for source, messages in polled.items():
            start = self._next.get(source, messages[0].offset)
            stage |= (each.take(source, start, messages, now_ms) for each in self._models[source.topic])
            self._next[source] = messages[-1].offset + 1
        letters = [letter for each in self._gatherers for letter in each.slicer.take_letters()]
        self._outbox.write(prediction_source.dead_letter_batches(letters))
        self._outbox.write(stage)
        self._consumer.commit({source: OffsetAndMetadata(self._next[source], "", -1) for source in polled})
        for letter in letters:
            metrics.DEAD_LETTERS.labels("drift", letter.topic, letter.kind).inc()
        for source, messages in polled.items():
            for each in self._models[source.topic]:
                kind = "predictions" if each.sources[source.topic] == PREDICTION else "labels"
                metrics.DRIFT_GATHERED.labels(each.model, kind).inc(len(messages))

    def _of_known_topics(self, polled: Mapping[TopicPartition, Any]) -> Mapping[TopicPartition, Any]:
        """Leave out records of topics that were recreated, and let these be read from their start."""
        recreated = {topic for topic in {each.topic for each in polled} if self._recreated.has(topic)}
        for topic in recreated:
            partitions = [each for each in self._consumer.assignment() if each.topic == topic]
            self._consumer.seek_to_beginning(*partitions)
            for partition in partitions:
                self._next.pop(partition, None)
            self._recreated.note(topic)
            _log.warning("drift.topic_recreated", topic=topic)
        return {source: messages for source, messages in polled.items() if source.topic not in recreated}

    def keep_all(self) -> None:
        """Do nothing: the committed offsets are the only state."""
