"""Values of any size on a real broker with Kafka's default limit for a record."""

import os
import threading
from collections.abc import Iterator, Sequence

import pytest
from kafka import KafkaAdminClient, TopicPartition

from services.runtime import kafka_consumers, large_records
from services.runtime.kafka_outbox import Outbox
from services.runtime.large_records import FoundValue, LargeRecordWriter
from services.runtime.settings import Settings
from streams.producer import Record

pytestmark = pytest.mark.timeout(300)

MIB = 1 << 20


class CrashError(Exception):
    """The process ends here."""


class CompactedTopic:
    """A compacted topic with one partition and a limit of 1 MiB for a record."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self.partition = TopicPartition(name, 0)
        self.outbox = Outbox("test", settings.kafka_options(), threading.Event())
        self.writes_left = 1_000_000
        admin = KafkaAdminClient(**settings.kafka_options())
        config = {"cleanup.policy": "compact", "max.message.bytes": str(MIB)}
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1, "configs": config}})
        admin.wait_for_topics([name])
        admin.close()

    def write(self, batch: Sequence[Record]) -> None:
        if self.writes_left == 0:
            raise CrashError
        self.writes_left -= 1
        self.outbox.write({(self.partition.topic, self.partition.partition): batch})

    def read(self, key: bytes) -> FoundValue | None:
        consumer = kafka_consumers.connect(self.settings, "test")
        try:
            return kafka_consumers.latest_values(consumer, self.partition, [key]).get(key)
        finally:
            consumer.close()


@pytest.fixture
def topic(kafka: str, unique_name: str) -> Iterator[CompactedTopic]:
    found = CompactedTopic(Settings().model_copy(update={"broker": kafka}), unique_name)
    yield found
    found.outbox.close()


def writer_after(topic: CompactedTopic, found: FoundValue) -> LargeRecordWriter:
    """Return a writer as a process makes it that starts after a value was written."""
    made = LargeRecordWriter(topic.write)
    made.learn({b"m": found})
    return made


def test_a_value_of_200_mib_is_read_as_it_was_written(topic: CompactedTopic) -> None:
    value = os.urandom(200 * MIB)
    LargeRecordWriter(topic.write).put(b"m", value)
    topic.write([(b"other", b"x", [])])
    found = topic.read(b"m")
    assert found is not None
    assert found.value == value
    assert found.layout.parts == (-(-len(value) // large_records.PART_BYTES_MAX), 0)


def test_after_a_crash_in_the_middle_the_value_before_is_read_and_the_next_one_is_written(
    topic: CompactedTopic,
) -> None:
    before, after = os.urandom(30 * MIB), os.urandom(20 * MIB)
    LargeRecordWriter(topic.write).put(b"m", before)
    found = topic.read(b"m")
    assert found is not None
    topic.writes_left = 2
    with pytest.raises(CrashError):
        writer_after(topic, found).put(b"m", os.urandom(60 * MIB))
    topic.writes_left = 1_000
    found = topic.read(b"m")
    assert found is not None
    assert found.value == before
    writer_after(topic, found).put(b"m", after)
    found = topic.read(b"m")
    assert found is not None
    assert found.value == after


def test_a_value_of_an_earlier_version_in_one_record_is_read(topic: CompactedTopic) -> None:
    topic.write([(b"m", b"x\x9c" * 1000, [])])
    found = topic.read(b"m")
    assert found is not None
    assert found.value == b"x\x9c" * 1000
