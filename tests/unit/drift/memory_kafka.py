"""A consumer and an outbox in memory: what the drift process needs of Kafka, without a broker."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kafka import TopicPartition

from streams.producer import Record

NOW_MS = 2_000_000_000_000


@dataclasses.dataclass(frozen=True)
class Message:
    """A record as a consumer returns it."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: int = NOW_MS


class TopicIds:
    """The metadata of a consumer."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def topic_id(self, topic: str) -> str:
        return str(self._ids.get(topic, 1))

    def recreate(self, topic: str) -> None:
        """Give a topic another id."""
        self._ids[topic] = self._ids.get(topic, 1) + 1


class MemoryConsumer:
    """Reads the partitions that `write` fills; one poll returns all records after the positions.

    With ``slice_size`` it returns so many of each partition.
    """

    def __init__(self, slice_size: Callable[[], int] | None = None) -> None:
        self.slice_size = slice_size
        self.logs: dict[TopicPartition, list[Message]] = {}
        self.positions: dict[TopicPartition, int] = {}
        self.committed: dict[TopicPartition, int] = {}
        self.topics: list[str] = []
        self.calls: list[str] = []
        self._cluster = TopicIds()

    def write(self, topic: str, *values: bytes | None, partition: int = 0) -> None:
        """Append records without key and headers to a partition."""
        self.write_records(topic, [(None, value, []) for value in values], partition)

    def write_records(self, topic: str, batch: Iterable[Record], partition: int = 0) -> None:
        """Append records to a partition."""
        log = self.logs.setdefault(TopicPartition(topic, partition), [])
        for key, value, headers in batch:
            log.append(Message(topic, partition, len(log), value, key, headers))

    def recreate(self, topic: str) -> None:
        """Delete a topic with its records, and create it again."""
        for partition, log in self.logs.items():
            if partition.topic == topic:
                log.clear()
        self._cluster.recreate(topic)

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    def values(self, topic: str) -> list[bytes]:
        """Return the values of partition 0."""
        log = self.logs.get(TopicPartition(topic, 0), [])
        return [message.value for message in log if message.value is not None]

    def subscribe(self, topics: list[str], listener: Any) -> None:
        self.topics = topics
        self.assign([partition for partition in self.logs if partition.topic in topics])
        listener.on_partitions_assigned(list(self.positions))

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        self.positions = {partition: self.positions.get(partition, 0) for partition in partitions}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        for partition in partitions:
            self.positions[partition] = 0

    def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Message]]:
        assert timeout_ms > 0
        found = {}
        for partition, position in self.positions.items():
            stop = None if self.slice_size is None else position + self.slice_size()
            if messages := self.logs.get(partition, [])[position:stop]:
                found[partition] = messages
                self.positions[partition] = position + len(messages)
        return found

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: len(self.logs.get(partition, ())) for partition in partitions}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {partition.partition for partition in self.logs if partition.topic == topic}

    def commit(self, offsets: dict[TopicPartition, Any]) -> None:
        self.calls.append("commit")
        self.committed |= {partition: each.offset for partition, each in offsets.items()}

    def paused(self) -> set[TopicPartition]:
        return set()


class MemoryOutbox:
    """Keeps the stages that are written, and writes them into a consumer's partitions."""

    def __init__(self, consumer: MemoryConsumer) -> None:
        self.consumer = consumer
        self.topics: list[str] = []
        """Topics in the order in which they were written."""

    def write_what_fits(self, stage: dict[tuple[str, int], list[Record]]) -> None:
        """Write all records of a stage."""
        self.write(stage)

    def write(self, stage: dict[tuple[str, int], list[Record]]) -> None:
        """Write all records of a stage."""
        for (topic, partition), batch in stage.items():
            if batch:
                self.topics.append(topic)
                self.consumer.calls.append(topic)
                self.consumer.write_records(topic, batch, partition)
