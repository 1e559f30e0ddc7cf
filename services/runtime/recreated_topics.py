"""Notices that a topic of a consumer was deleted and recreated: its offsets then mean other records."""

from collections.abc import Iterable

from kafka import KafkaConsumer

from services.runtime.kafka_consumers import topic_id
from streams.outages import OutageError


class TopicRecreatedError(OutageError):
    """A topic that is read was recreated: the next session reads it from its start."""


class RecreatedTopics:
    """The ids of topics in a consumer's metadata, which it asks for every half minute.

    Before Kafka 2.8 there are no ids, and no topic counts as recreated.
    """

    def __init__(self, consumer: KafkaConsumer) -> None:
        """Take a consumer; a topic is known once it was noted."""
        self._consumer = consumer
        self._ids: dict[str, str] = {}

    def note(self, topic: str) -> None:
        """Note the present topic as the known one."""
        self._ids[topic] = topic_id(self._consumer, topic)

    def has(self, topic: str) -> bool:
        """Return whether a topic is another one than the known one; note one that is not known."""
        known, now = self._ids.get(topic), topic_id(self._consumer, topic)
        if not known:
            self._ids[topic] = now
        return bool(known and now) and now != known

    def check(self, topics: Iterable[str]) -> None:
        """Raise `TopicRecreatedError` if one of these topics is another one than the known one."""
        if found := [topic for topic in topics if self.has(topic)]:
            raise TopicRecreatedError(f"recreated: {', '.join(found)}; it is read from its start")
