"""Reads the drift topic to its present end: one model's history."""

from services.monitoring.reports.history import WindowHistory
from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from streams import records, topics

CLOSE_MS = 1000


class ReportsError(RuntimeError):
    """The drift topic cannot be read. The message says what to do."""


def read(settings: Settings, model: str) -> WindowHistory:
    """Return all that the topic holds of a model; about 0.3 s for a year of days.

    Raises:
        ReportsError: There is no such topic.
        KafkaError: The broker cannot be reached.
    """
    from kafka import TopicPartition

    history, key = WindowHistory(), model.encode()
    decode = records.decoder_of(records.DriftRecord).decode
    place = TopicPartition(topics.DRIFT.name, 0)
    consumer = kafka_consumers.connect(settings, "reports")
    try:
        if not consumer.partitions_for_topic(place.topic):
            raise ReportsError(f"there is no topic {place.topic}: run 'driftline setup'")
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        kafka_consumers.read_to_end(
            consumer,
            [place],
            lambda each: history.take(decode(each.value)) if each.key == key and each.value else None,
        )
    finally:
        consumer.close(timeout_ms=CLOSE_MS)
    return history
