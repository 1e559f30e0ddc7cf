"""What Kafka holds: the records that the archive has not read yet, and until when records stay."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from services.runtime import kafka_admin, kafka_consumers, times
from services.runtime.settings import Settings
from streams.codec import KafkaRecord

CHECK_MS = 300_000
"""Time between two checks of a broker for expired records, by default."""
FOREVER = -1


@dataclasses.dataclass(frozen=True)
class Retention:
    """Until when a topic may hold records that are there now."""

    topic: str
    policy: str
    """Kafka's ``cleanup.policy``."""
    retention_ms: int
    """-1: no limit."""
    segment_ms: int
    """Time after which a segment is closed: its records are deleted together."""
    latest_ms: int | None
    """Wall time of the newest record; None for an empty topic."""

    @property
    def until_ms(self) -> int | None:
        """Wall time by which Kafka has deleted all that is there now; None if there is no such time."""
        if self.latest_ms is None:
            return 0
        if "delete" not in self.policy or self.retention_ms < 0:
            return None
        return self.latest_ms + self.segment_ms + self.retention_ms + CHECK_MS

    @property
    def text(self) -> str:
        """The statement in words."""
        if self.latest_ms is None:
            return "empty"
        if "delete" not in self.policy:
            return "compacted: the newest record of each key stays, older ones until the next compaction"
        if self.until_ms is None:
            return "retention.ms=-1: without a limit, until its owner deletes records or sets retention.ms"
        return f"retention.ms={self.retention_ms}: gone by {times.minute(self.until_ms)}"


class Holdings:
    """One consumer for all questions of a run."""

    def __init__(self, settings: Settings, consumer: KafkaConsumer) -> None:
        """Take the connection."""
        self._settings = settings
        self._consumer = consumer

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of a topic; none if it does not exist."""
        found = self._consumer.partitions_for_topic(topic) or ()
        return [TopicPartition(topic, number) for number in sorted(found)]

    def ends(self, topic: str) -> list[int]:
        """Return the end offset of each partition; 0 where it holds no record."""
        partitions = self.partitions(topic)
        begins, ends = self._consumer.beginning_offsets(partitions), self._consumer.end_offsets(partitions)
        return [ends[each] if begins[each] < ends[each] else 0 for each in partitions]

    def topic_id(self, topic: str) -> str:
        """Return Kafka's id of a topic; empty if it has none."""
        return kafka_consumers.topic_id(self._consumer, topic)

    def records(self, topic: str, starts: Mapping[int, int]) -> Iterator[KafkaRecord]:
        """Yield the records of a topic from the given offset of each partition, up to the end."""
        partitions = self.partitions(topic)
        if not partitions:
            return
        begins = self._consumer.beginning_offsets(partitions)
        self._consumer.assign(partitions)
        for each in partitions:
            self._consumer.seek(each, max(begins[each], starts.get(each.partition, 0)))
        yield from kafka_consumers.read_to_end(self._consumer, partitions)

    def retentions(self, topics: Iterable[str]) -> list[Retention]:
        """Return until when each of these topics that exists holds its records."""
        existing = [topic for topic in topics if self.partitions(topic)]
        if not existing:
            return []
        with kafka_admin.connected(self._settings.kafka_options()) as admin:
            resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in existing]
            configs = admin.describe_configs(resources, config_filter="all")["topic"]
        return [
            Retention(
                topic,
                str(configs[topic]["cleanup.policy"]["value"]),
                int(configs[topic]["retention.ms"]["value"]),
                int(configs[topic]["segment.ms"]["value"]),
                self._latest_ms(topic),
            )
            for topic in existing
        ]

    def _latest_ms(self, topic: str) -> int | None:
        """Return the wall time up to which the topic may have records: now, unless it is empty."""
        return times.now_ms() if any(self.ends(topic)) else None

    def committed(self, group: str) -> dict[TopicPartition, int]:
        """Return the committed offsets of a consumer group."""
        with kafka_admin.connected(self._settings.kafka_options()) as admin:
            found = admin.list_group_offsets({group: None})[group]
        return {partition: offset.offset for partition, offset in found.items() if offset.offset >= 0}

    def has_members(self, group: str) -> bool:
        """Return whether a process of a consumer group is running."""
        with kafka_admin.connected(self._settings.kafka_options()) as admin:
            found = admin.describe_groups([group])
        return bool(found.get(group, {}).get("members"))


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[Holdings]:
    """Be connected until the block ends. Raises `KafkaError`."""
    consumer = kafka_consumers.connect(settings, "erase")
    try:
        yield Holdings(settings, consumer)
    finally:
        consumer.close(timeout_ms=kafka_consumers.CLOSE_MS)


def unfinished(
    holdings: Holdings, positions: Mapping[str, Mapping[int, int]], is_own: Callable[[KafkaRecord], bool]
) -> dict[str, int]:
    """Return how many records of the subject the archive has not read yet, by topic."""
    found = {topic: sum(map(is_own, holdings.records(topic, starts))) for topic, starts in positions.items()}
    return {topic: count for topic, count in found.items() if count}


def latest_end(retentions: Sequence[Retention]) -> int | None:
    """Return the wall time by which these topics have deleted all their records; None without one."""
    ends = [each.until_ms for each in retentions]
    return None if None in ends else max((each for each in ends if each is not None), default=0)
