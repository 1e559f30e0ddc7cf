"""Reads ranges of a partition again, outside the consumer group."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streams.aiokafka_internals import stop_consumer

FETCH_MS = 1000
"""Maximum time that one read waits for records."""


class PartitionReader:
    """Reads ranges of one partition; joins no consumer group."""

    def __init__(self, consumer: AIOKafkaConsumer, topic_partition: TopicPartition, records_max: int) -> None:
        """Use a consumer with only this partition assigned; see `opened`."""
        self._consumer = consumer
        self._topic_partition = topic_partition
        self._records_max = records_max
        self._position = -1

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, kafka_options: Mapping[str, Any], topic: str, partition: int, records_max: int
    ) -> AsyncIterator[Self]:
        """Open a reader that stays connected until the block ends."""
        consumer = AIOKafkaConsumer(
            **kafka_options,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",  # as the consumer group does
        )
        await consumer.start()
        try:
            topic_partition = TopicPartition(topic, partition)
            consumer.assign([topic_partition])
            yield cls(consumer, topic_partition, records_max)
        finally:
            await stop_consumer(consumer)

    async def earliest(self) -> int:
        """Return the first offset that retention has kept."""
        offset: int = (await self._consumer.beginning_offsets([self._topic_partition]))[self._topic_partition]
        return offset

    async def read(self, start: int, limit: int) -> tuple[Sequence[ConsumerRecord], int]:
        """Return records from ``start`` on, below ``limit``, and the offset from which to read next.

        Raises:
            OffsetOutOfRangeError: Retention has deleted records from ``start`` on.
        """
        if self._position != start:
            self._consumer.seek(self._topic_partition, start)
        found = await self._consumer.getmany(
            self._topic_partition, timeout_ms=FETCH_MS, max_records=self._records_max
        )
        records = found.get(self._topic_partition, [])
        in_range = [record for record in records if record.offset < limit]
        # Offsets have gaps if the topic is compacted or written in transactions.
        reached = records[-1].offset + 1 if records else await self._consumer.position(self._topic_partition)
        self._position = reached
        return in_range, min(max(reached, start), limit)
