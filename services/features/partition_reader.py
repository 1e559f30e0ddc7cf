"""Reading a range of a partition again, beside the consumer group."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

FETCH_MS = 1000


class PartitionReader:
    """Reads ranges of one partition; belongs to no group."""

    def __init__(self, consumer: AIOKafkaConsumer, place: TopicPartition, records_max: int) -> None:
        """Use a consumer to which only this partition is assigned; see `opened`."""
        self._consumer = consumer
        self._place = place
        self._records_max = records_max
        self._position = -1

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, kafka_options: Mapping[str, Any], topic: str, partition: int, records_max: int
    ) -> AsyncIterator[Self]:
        """Connect until the block ends."""
        consumer = AIOKafkaConsumer(**kafka_options, enable_auto_commit=False, auto_offset_reset="none")
        await consumer.start()
        try:
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            yield cls(consumer, place, records_max)
        finally:
            await consumer.stop()

    async def earliest(self) -> int:
        """Return the first offset that the broker still has."""
        offset: int = (await self._consumer.beginning_offsets([self._place]))[self._place]
        return offset

    async def read(self, start: int, limit: int) -> tuple[Sequence[ConsumerRecord], int]:
        """Return records from ``start``, none from ``limit`` on, and the offset up to which that is all.

        Raises:
            OffsetOutOfRangeError: The broker has removed records behind ``start`` meanwhile.
        """
        if self._position != start:
            self._consumer.seek(self._place, start)
        found = await self._consumer.getmany(self._place, timeout_ms=FETCH_MS, max_records=self._records_max)
        records = found.get(self._place, [])
        wanted = [record for record in records if record.offset < limit]
        # Offsets have gaps where the topic is compacted or written in transactions.
        reached = records[-1].offset + 1 if records else await self._consumer.position(self._place)
        self._position = reached
        return wanted, min(max(reached, start), limit)
