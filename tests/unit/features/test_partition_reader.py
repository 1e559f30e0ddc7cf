"""Ranges of a partition: limits, gaps between offsets, and no needless seeks."""

import asyncio
import dataclasses
from typing import Any

from aiokafka import TopicPartition

from services.features.partition_reader import PartitionReader

PARTITION = TopicPartition("orders", 3)


@dataclasses.dataclass
class Record:
    offset: int


@dataclasses.dataclass
class FakeConsumer:
    """Has records at some offsets; the log may end with records that consumers do not see."""

    offsets: list[int]
    end: int
    at: int = 0
    seeks: list[int] = dataclasses.field(default_factory=list)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.at = offset
        self.seeks.append(offset)

    async def getmany(self, partition: TopicPartition, *, timeout_ms: int, max_records: int) -> Any:
        found = [Record(offset) for offset in self.offsets if offset >= self.at][:max_records]
        self.at = found[-1].offset + 1 if found else self.end
        return {partition: found} if found else {}

    async def position(self, partition: TopicPartition) -> int:
        return self.at

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.offsets[0])


def read(consumer: FakeConsumer, *ranges: tuple[int, int], records_max: int = 3) -> list[Any]:
    """Read ranges one after the other; return offsets and next offset of each."""

    async def go() -> list[Any]:
        client: Any = consumer
        reader = PartitionReader(client, PARTITION, records_max)
        found = [await reader.read(start, limit) for start, limit in ranges]
        return [([record.offset for record in records], next_offset) for records, next_offset in found]

    return asyncio.run(go())


def test_records_from_the_limit_on_are_left_out() -> None:
    consumer = FakeConsumer([0, 1, 2, 3], end=4)
    assert read(consumer, (0, 2)) == [([0, 1], 2)]


def test_reader_seeks_only_if_it_does_not_continue() -> None:
    consumer = FakeConsumer([0, 1, 2, 3, 4, 5], end=6)
    assert read(consumer, (0, 9), (3, 9), (1, 9)) == [([0, 1, 2], 3), ([3, 4, 5], 6), ([1, 2, 3], 4)]
    assert consumer.seeks == [0, 1]


def test_gaps_are_passed() -> None:
    consumer = FakeConsumer([0, 7], end=9)
    assert read(consumer, (1, 20)) == [([7], 8)]
    assert read(consumer, (8, 20)) == [([], 9)], "only records that consumers do not see are left"
    assert read(consumer, (8, 9)) == [([], 9)]


def test_earliest_offset_is_that_of_the_log() -> None:
    client: Any = FakeConsumer([5, 6], end=7)
    assert asyncio.run(PartitionReader(client, PARTITION, 3).earliest()) == 5
