"""Notices that a topic of a consumer was deleted and recreated: its offsets then mean other records."""

from collections.abc import Iterable

from kafka import KafkaConsumer

from services.runtime import topic_identity
from services.runtime.kafka_consumers import topic_id


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
        return bool(topic_identity.recreated(*self._known_and_now([topic])))

    def check(self, topics: Iterable[str]) -> None:
        """Raise `TopicRecreatedError` if one of these topics is another one than the known one."""
        topic_identity.require_same(*self._known_and_now(topics))

    def _known_and_now(self, topics: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        now = {topic: topic_id(self._consumer, topic) for topic in topics}
        self._ids |= {topic: found for topic, found in now.items() if not self._ids.get(topic)}
        return {topic: self._ids[topic] for topic in now}, now
