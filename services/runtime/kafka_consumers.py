"""Kafka for those who keep their own offsets: consumers without a group, and bounded reads to the end."""

import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import KafkaTimeoutError

from services.runtime.settings import Settings

POLL_RECORDS_MAX = 10_000
"""One slice: a quarter of a second of work, which bounds how late the watermark is published."""
PARTITION_BYTES_MAX = 4 << 20
FETCH_BYTES_MIN, FETCH_WAIT_MS_MAX = 32 << 10, 20
"""A slice costs about 2 ms whatever it holds: waiting 20 ms for more of it halves the CPU in a replay."""
READ_SECONDS_MAX = 60.0


def connect(settings: Settings, name: str, **options: Any) -> KafkaConsumer:
    """Make a consumer that commits nothing by itself; by default its partitions are assigned by hand."""
    return KafkaConsumer(
        **settings.kafka_options(),
        **({"group_id": None} | options),
        client_id=f"driftline-{name}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        allow_auto_create_topics=False,
        max_poll_records=POLL_RECORDS_MAX,
        max_partition_fetch_bytes=PARTITION_BYTES_MAX,
        fetch_min_bytes=FETCH_BYTES_MIN,
        fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
        # Without the C extension a checksum costs 0.1 us a byte, several times all other work.
        check_crcs=importlib.util.find_spec("crc32c") is not None,
        metrics_enabled=False,
        metadata_max_age_ms=30_000,
        reconnect_backoff_max_ms=2000,
        bootstrap_timeout_ms=5000,
    )


def connect_member(settings: Settings, name: str, group: str) -> KafkaConsumer:
    """Make a member of a group, which shares the partitions of what it subscribes to."""
    return connect(
        settings,
        name,
        group_id=group,
        session_timeout_ms=round(settings.session_timeout_seconds * 1000),
        heartbeat_interval_ms=round(settings.session_timeout_seconds * 1000 / 4),
        partition_assignment_strategy=[RoundRobinPartitionAssignor],
    )


def read_to_end(
    consumer: KafkaConsumer, places: Sequence[TopicPartition], take: Callable[[Any], None]
) -> None:
    """Hand over everything that was written before this call, from the consumer's position on."""
    ends = consumer.end_offsets(list(places))
    deadline = time.monotonic() + READ_SECONDS_MAX
    while any(consumer.position(place) < end for place, end in ends.items()):
        for message in _messages(consumer.poll(timeout_ms=200)):
            take(message)
        if time.monotonic() > deadline:
            raise KafkaTimeoutError(f"the end of {places[0].topic} was not reached in {READ_SECONDS_MAX:g} s")


def latest_values(
    consumer: KafkaConsumer, place: TopicPartition, keys: Sequence[bytes]
) -> dict[bytes, tuple[int, bytes]]:
    """Return offset and value of the last record of each key of a partition, reading from the back."""
    consumer.assign([place])
    begin = consumer.beginning_offsets([place])[place]
    end = consumer.end_offsets([place])[place]
    found: dict[bytes, tuple[int, bytes]] = {}
    records_read = 4 * len(keys)
    while True:
        start = max(begin, end - records_read)
        consumer.seek(place, start)
        read_to_end(consumer, [place], lambda message: _remember(found, message))
        if start == begin or found.keys() >= set(keys):
            return {key: found[key] for key in keys if key in found}
        records_read *= 4


def _remember(found: dict[bytes, tuple[int, bytes]], message: Any) -> None:
    if message.key is None:
        return
    if message.value is None:
        found.pop(message.key, None)
    else:
        found[message.key] = (message.offset, message.value)


def _messages(polled: dict[TopicPartition, list[Any]]) -> Iterator[Any]:
    for batch in polled.values():
        yield from batch
