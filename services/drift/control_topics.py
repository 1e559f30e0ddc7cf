"""The topics that control drift: references on the models topic, retrainings, and rollouts."""

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from kafka import KafkaConsumer, TopicPartition

from services.drift.engine import Engine
from services.model_registry import model_change
from services.model_registry.large_references import Read
from services.runtime import metrics
from services.runtime.kafka_consumers import read_to_end
from services.runtime.recreated_topics import RecreatedTopics
from streams import records, topics
from streams.outages import is_outage

_log = structlog.get_logger()


class ControlTopics:
    """Reads these topics from the start for each engine: they are short, and an engine needs all of them."""

    def __init__(self, consumer: KafkaConsumer, read_reference: Read) -> None:
        """Take a consumer for these topics alone, and what reads large references; `catch_up` reads."""
        self._consumer = consumer
        self._read_reference = read_reference
        self._engines: Mapping[str, Engine] = {}
        read = (topics.MODELS, topics.RETRAINING, topics.ROLLOUTS)
        self._partitions = [TopicPartition(topic.name, 0) for topic in read]
        self._decode_retraining = records.decoder_of(records.RetrainingRecord).decode
        self._decode_rollout = records.decoder_of(records.RolloutRecord).decode
        self._recreated = RecreatedTopics(consumer)
        consumer.assign(self._partitions)
        consumer.seek_to_beginning(*self._partitions)

    def catch_up(self, engines: Mapping[str, Engine]) -> None:
        """Read the topics to their current end; for engines that were not given before, from the start.

        A topic that was recreated is read from its start for all of them.
        """
        new = {name: engine for name, engine in engines.items() if self._engines.get(name) is not engine}
        self._engines = engines
        known_to = dict.fromkeys(self._partitions, 0)
        recreated = [each.topic for each in self._partitions if self._recreated.has(each.topic)]
        if new and not recreated:
            known_to = {partition: self._consumer.position(partition) for partition in self._partitions}
        if new or recreated:
            self._consumer.seek_to_beginning(*self._partitions)
        for topic in recreated:
            self._recreated.note(topic)
        for message in read_to_end(self._consumer, self._partitions):
            is_known = message.offset < known_to[TopicPartition(message.topic, message.partition)]
            self._take(message, new if is_known else engines)

    def _take(self, message: Any, engines: Mapping[str, Engine]) -> None:
        if message.value is None:
            return
        try:
            self._apply(message, engines)
        except Exception as error:
            if is_outage(error):
                raise
            # Its writer has a defect. The latest readable record of the model stays in force.
            metrics.RECORDS_SKIPPED.labels("drift", message.topic).inc()
            _log.error(
                "drift.control_unreadable", topic=message.topic, offset=message.offset, error=repr(error)
            )

    def _apply(self, message: Any, engines: Mapping[str, Engine]) -> None:
        if message.topic == topics.MODELS.name:
            change = model_change.decode_any(message.value)
            if change is not None and change.model in engines:
                engines[change.model].add_model(self._complete(change))
            return
        is_rollout = message.topic == topics.ROLLOUTS.name
        record = (self._decode_rollout if is_rollout else self._decode_retraining)(message.value)
        if record.model in engines:
            engines[record.model].add_retraining(record)

    def _complete(self, change: records.ModelsRecord) -> records.ModelsRecord:
        """Return a change with its reference, if it has only the name of one."""
        if isinstance(change, records.FeatureSet) or change.reference_name is None:
            return change
        reference = self._read_reference(change.model, change.reference_name)
        return msgspec.structs.replace(change, reference=reference)
