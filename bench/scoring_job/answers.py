"""What stands in a topic of answers, with the broker's own times of them."""

import dataclasses
from typing import Any

import msgspec
import numpy as np

from bench.scoring_job.installation import PARTITIONS
from services.runtime.settings import Settings


@dataclasses.dataclass(frozen=True)
class Answers:
    """Broker times in ms, in order, and scores by request."""

    times_ms: np.ndarray[Any, np.dtype[np.int64]]
    scores: dict[str, float]

    @property
    def rate(self) -> float:
        """Events per second from the first batch of answers on."""
        first, last = self.times_ms.min(), self.times_ms.max()
        return float((self.times_ms > first).sum() / max(last - first, 1) * 1000)


class _Answer(msgspec.Struct):
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


def read(settings: Settings, topic: str, *, skip: int, wanted: int) -> Answers:
    """Read the first ``wanted`` answers of a topic; the ``skip`` oldest count in neither times nor scores."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": settings.broker, "group.id": "bench-read", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    decode = msgspec.json.Decoder(_Answer).decode
    found: list[tuple[int, str, float]] = []
    while len(found) < wanted:
        for message in consumer.consume(10_000, 1.0):
            answer = decode(message.value() or b"")
            found.append((message.timestamp()[1], answer.prediction_id, answer.score))
    consumer.close()
    found.sort()
    counted = found[skip:]
    return Answers(np.array([when for when, _, _ in counted]), {name: score for _, name, score in counted})
