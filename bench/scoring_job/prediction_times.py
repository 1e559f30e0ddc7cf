"""The predictions in a topic: their scores and the times at which the broker received them."""

import dataclasses
from typing import Any

import msgspec
import numpy as np

from bench.scoring_job.installation import PARTITIONS
from services.runtime.settings import Settings


@dataclasses.dataclass(frozen=True)
class PredictionTimes:
    """The predictions of one run."""

    times_ms: np.ndarray[Any, np.dtype[np.int64]]
    """Times of the broker, ascending."""
    scores: dict[str, float]
    """Scores by request id."""

    @property
    def rate(self) -> float:
        """Events per second, from the first batch of predictions on."""
        first, last = self.times_ms.min(), self.times_ms.max()
        return float((self.times_ms > first).sum() / max(last - first, 1) * 1000)


class _ScoredRequest(msgspec.Struct):
    prediction_id: str
    score: float


def count(settings: Settings, topic: str) -> int:
    """Return how many records a topic holds."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": settings.broker, "group.id": "bench-count"})
    try:
        marks = (consumer.get_watermark_offsets(TopicPartition(topic, p), 10) for p in range(PARTITIONS))
        return sum(high for _, high in marks)
    finally:
        consumer.close()


def read(settings: Settings, topic: str, *, skip: int, wanted: int) -> PredictionTimes:
    """Read the first ``wanted`` predictions of a topic; leave out the ``skip`` oldest."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": settings.broker, "group.id": "bench-read", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    decode = msgspec.json.Decoder(_ScoredRequest).decode
    found: list[tuple[int, str, float]] = []
    while len(found) < wanted:
        for message in consumer.consume(10_000, 1.0):
            scored = decode(message.value() or b"")
            found.append((message.timestamp()[1], scored.prediction_id, scored.score))
    consumer.close()
    found.sort()
    counted = found[skip:]
    times_ms = np.array([time_ms for time_ms, _, _ in counted])
    return PredictionTimes(times_ms, {request_id: score for _, request_id, score in counted})
