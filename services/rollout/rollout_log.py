"""The rollouts of all models, read from `driftline.rollouts` and the results of retrainings.

A retraining that ends as ``passed`` is a request for the rollout of its version.
"""

from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition

from services.rollout.rollout_state import ModelRollouts
from services.runtime import metrics
from services.runtime.kafka_consumers import read_to_end
from services.runtime.recreated_topics import RecreatedTopics
from streams import records, topics
from streams.outages import is_outage
from streams.records import RetrainingFinished, RolloutRecord, RolloutRequested

PARTITIONS = [TopicPartition(topic.name, 0) for topic in (topics.ROLLOUTS, topics.RETRAINING)]

_log = structlog.get_logger()


class RolloutLog:
    """Reads both topics from their start; they are short and kept without a limit."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        """Read to the end with a consumer of this log alone."""
        self.models: dict[str, ModelRollouts] = {}
        self._consumer = consumer
        self._decode_rollout = records.decoder_of(records.RolloutRecord).decode
        self._decode_retraining = records.decoder_of(records.RetrainingRecord).decode
        self._recreated = RecreatedTopics(consumer)
        consumer.assign(PARTITIONS)
        consumer.seek_to_beginning(*PARTITIONS)
        for partition in PARTITIONS:
            self._recreated.note(partition.topic)
        self.refresh()

    def of(self, model: str) -> ModelRollouts:
        """Return the rollouts of a model."""
        return self.models.setdefault(model, ModelRollouts())

    def refresh(self) -> None:
        """Read what was written since; raise `TopicRecreatedError` if a topic is another one now."""
        self._recreated.check([partition.topic for partition in PARTITIONS])
        for message in read_to_end(self._consumer, PARTITIONS):
            if message.value is not None:
                self._take(message)

    def apply(self, record: RolloutRecord) -> None:
        """Take a record that was written here; reading it again changes nothing."""
        self.of(record.model).apply(record)

    def _take(self, message: Any) -> None:
        try:
            if message.topic == topics.ROLLOUTS.name:
                self.apply(self._decode_rollout(message.value))
            else:
                self._take_retraining(self._decode_retraining(message.value))
        except Exception as error:
            if is_outage(error):
                raise
            metrics.RECORDS_SKIPPED.labels("rollout", message.topic).inc()
            _log.error(
                "rollout.record_unreadable", topic=message.topic, offset=message.offset, error=repr(error)
            )

    def _take_retraining(self, record: records.RetrainingRecord) -> None:
        if isinstance(record, RetrainingFinished) and record.result == "passed":
            self.apply(request_of(record))


def request_of(finished: RetrainingFinished) -> RolloutRequested:
    """Return the request that follows from a retraining whose candidate passed its gates."""
    return RolloutRequested(
        request_id=finished.request_id,
        model=finished.model,
        version=finished.version,
        requested_at_ms=finished.requested_at_ms,
        reason=f"the candidate of a retraining ({finished.trigger}) passed its gates",
        actor="retraining",
    )
