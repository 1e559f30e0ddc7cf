"""The two topics that control drift: references on the models topic, requests on the retraining topic."""

from collections.abc import Mapping
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition

from services.drift.engine import Engine
from services.model_registry import model_change
from services.runtime.kafka_consumers import read_to_end
from streams import records, topics
from streams.json_decoder import InvalidRecordError

_log = structlog.get_logger()


class ControlTopics:
    """Reads both topics from their beginning at every start: they are short, and engines need all of them."""

    def __init__(self, consumer: KafkaConsumer, engines: Mapping[str, Engine]) -> None:
        """Take a consumer for these topics alone, and the engines by model; `catch_up` reads."""
        self._consumer = consumer
        self._engines = engines
        self._partitions = [TopicPartition(topic.name, 0) for topic in (topics.MODELS, topics.RETRAINING)]
        self._decode_retraining = records.decoder_of(records.RetrainingRecord).decode
        consumer.assign(self._partitions)
        consumer.seek_to_beginning(*self._partitions)

    def catch_up(self) -> None:
        """Read both topics to their current end."""
        for message in read_to_end(self._consumer, self._partitions):
            self._take(message)

    def _take(self, message: Any) -> None:
        if message.value is None:
            return
        try:
            self._apply(message)
        except InvalidRecordError as error:
            # Its writer has a defect. The latest readable record of the model stays in force.
            _log.error(
                "drift.control_unreadable", topic=message.topic, offset=message.offset, error=str(error)
            )

    def _apply(self, message: Any) -> None:
        if message.topic == topics.MODELS.name:
            change = model_change.decode(message.value)
            if change is not None and change.model in self._engines:
                self._engines[change.model].add_model(change)
            return
        record = self._decode_retraining(message.value)
        if isinstance(record, records.RetrainingRequested) and record.model in self._engines:
            self._engines[record.model].add_request(record)
