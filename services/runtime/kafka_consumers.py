"""Consumers that keep their own offsets, without a consumer group, and reads of a topic to its end."""

import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from kafka.errors import KafkaTimeoutError

from services.runtime.large_records import FoundValue, LargeRecordReader
from services.runtime.settings import Settings
from streams import kafka_python_internals

POLL_RECORDS_MAX = 10_000
"""Maximum records per slice: 0.25 s of work, which bounds how late the watermark is published."""
PARTITION_BYTES_MAX = 4 << 20
FETCH_BYTES_MIN, FETCH_WAIT_MS_MAX = 32 << 10, 20
"""A slice costs about 2 ms whatever its size: waiting 20 ms for more halves the CPU time of a replay."""
POLL_MS = 200
SILENCE_SECONDS_MAX = 60.0
"""A broker that sends nothing for this long before the end of a partition is considered down."""
HEARTBEAT_MS = 500
"""Time between the heartbeats of a member, whose answers tell it that the group changes."""
CLOSE_MS = 1000
COMMITTED = "read_committed"
"""Isolation level of all consumers: records of transactions that are aborted or still open are not read, and
the end of a partition is that of its committed records."""

kafka_python_internals.read_any_header_name()


class MissingTopicError(RuntimeError):
    """The broker does not know a topic. The message names it."""


def connect(settings: Settings, name: str, **options: Any) -> KafkaConsumer:
    """Return a consumer that commits nothing by itself; by default its partitions are assigned by hand."""
    return KafkaConsumer(
        **settings.kafka_options(),
        **({"group_id": None, "max_poll_records": POLL_RECORDS_MAX} | options),
        client_id=f"driftline-{name}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=COMMITTED,
        allow_auto_create_topics=False,
        max_partition_fetch_bytes=PARTITION_BYTES_MAX,
        fetch_min_bytes=FETCH_BYTES_MIN,
        fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
        # Without the C extension a checksum costs 0.1 us per byte, several times all other work.
        check_crcs=importlib.util.find_spec("crc32c") is not None,
        metrics_enabled=False,
        metadata_max_age_ms=30_000,
        reconnect_backoff_max_ms=2000,
        bootstrap_timeout_ms=5000,
    )


def connect_member(
    settings: Settings, name: str, group: str, assignor: AbstractPartitionAssignor
) -> KafkaConsumer:
    """Return a member of a consumer group, which shares the partitions of its topics with the others."""
    return connect(
        settings,
        name,
        group_id=group,
        session_timeout_ms=round(settings.session_timeout_seconds * 1000),
        heartbeat_interval_ms=HEARTBEAT_MS,
        partition_assignment_strategy=[assignor],
    )


def partition_count(consumer: KafkaConsumer, topic: str) -> int:
    """Return the number of partitions of a topic; raise `MissingTopicError` while the broker knows none."""
    found = consumer.partitions_for_topic(topic)
    if not found:
        raise MissingTopicError(f"there is no topic {topic}: run 'driftline setup'")
    return len(found)


def topic_id(consumer: KafkaConsumer, topic: str) -> str:
    """Return the id of a topic in the consumer's metadata; empty if the broker (before 2.8) gives none."""
    cluster = getattr(consumer, "_cluster", None)  # kafka-python has no public way but another connection
    found = None if cluster is None else cluster.topic_id(topic)
    return "" if found is None else str(found)


def end_offsets(consumer: KafkaConsumer, topic: str) -> list[int]:
    """Return the end offset of each partition of a topic; raise `MissingTopicError` if it does not exist."""
    partitions = [TopicPartition(topic, number) for number in range(partition_count(consumer, topic))]
    ends = consumer.end_offsets(partitions)
    return [ends[partition] for partition in partitions]


def read_topic(settings: Settings, name: str, topic: str, start: int = 0) -> Iterator[Any]:
    """Yield the records of a topic with one partition, up to its end at the time of the call.

    Args:
        settings: The broker.
        name: The client's name, as the broker logs it: ``driftline-<name>``.
        topic: Its name.
        start: First offset; where retention or compaction has deleted it, the first one that is left.

    Raises:
        MissingTopicError: The topic does not exist.
        KafkaError: The broker cannot be reached, or sent nothing for `SILENCE_SECONDS_MAX`.
    """
    consumer = connect(settings, name)
    try:
        partition_count(consumer, topic)
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, max(start, consumer.beginning_offsets([partition])[partition]))
        yield from read_to_end(consumer, [partition])
    finally:
        consumer.close(timeout_ms=CLOSE_MS)


def read_to_end(consumer: KafkaConsumer, partitions: Sequence[TopicPartition]) -> Iterator[Any]:
    """Yield all records from the consumer's positions up to the ends at the time of the call.

    Records that are fetched together with the last ones follow, so that none is skipped when the consumer
    reads on. Offsets that hold no record (compaction, transactions) are passed over: positions decide.

    Raises:
        KafkaTimeoutError: The broker sent nothing for `SILENCE_SECONDS_MAX`.
    """
    ends = consumer.end_offsets(list(partitions))
    silent_since = time.monotonic()
    while lacking := _positions_before(consumer, ends):
        polled = [record for batch in consumer.poll(timeout_ms=POLL_MS).values() for record in batch]
        if polled:
            yield from polled
            silent_since = time.monotonic()
        elif time.monotonic() - silent_since > SILENCE_SECONDS_MAX:
            raise KafkaTimeoutError(_silence(lacking, ends))


def _positions_before(
    consumer: KafkaConsumer, ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Return the positions that have not reached their end."""
    positions = {partition: consumer.position(partition) for partition in ends}
    return {partition: position for partition, position in positions.items() if position < ends[partition]}


def _silence(lacking: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> str:
    partition, position = next(iter(lacking.items()))
    return (
        f"{partition.topic}, partition {partition.partition}: no record arrived for "
        f"{SILENCE_SECONDS_MAX:g} s at offset {position}, before the end at {ends[partition]}: "
        "check whether the broker is up and the partition has a leader"
    )


def latest_values(
    consumer: KafkaConsumer, partition: TopicPartition, keys: Sequence[bytes]
) -> dict[bytes, FoundValue]:
    """Return the latest value of each key of a partition, reading from its end; deleted ones are left out.

    A value that was written in parts (`services.runtime.large_records`) is put together.

    Raises:
        LargeRecordError: A value in parts is not complete.
        KafkaError: The broker cannot be reached, or sent nothing for `SILENCE_SECONDS_MAX`.
    """
    consumer.assign([partition])
    begin = consumer.beginning_offsets([partition])[partition]
    stop = consumer.end_offsets([partition])[partition]
    reader = LargeRecordReader(keys)
    records_read = 4 * len(keys)
    while stop > begin and not reader.is_complete:
        start = max(begin, stop - records_read)
        consumer.seek(partition, start)
        for record in read_to_end(consumer, [partition]):
            if record.offset >= stop:
                break
            reader.take(record.offset, record.key, record.value, record.timestamp)
        reader.drop_unneeded()
        stop = start
        records_read *= 4
    return reader.found()
