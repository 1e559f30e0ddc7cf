"""Topics that are written in transactions: aborted records are not seen, and the end is reached."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from faust.types import TP
from kafka.admin import KafkaAdminClient, NewTopic

from services.features.partition_reader import PartitionReader
from services.runtime.settings import Settings
from streams.groups import Group
from streams.slices import Slice, SliceObserver
from tests.waiting import LIVENESS_SECONDS


async def write(kafka: str, topic: str, transactions: Sequence[tuple[bytes, bool]]) -> int:
    """Write transactions of three equal values, each committed or aborted; return the topic's end."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"writer of {topic}")
    await producer.start()
    try:
        for value, is_committed in transactions:
            await producer.begin_transaction()
            for _ in range(3):
                sent = await producer.send_and_wait(topic, value, partition=0)
            await (producer.commit_transaction() if is_committed else producer.abort_transaction())
    finally:
        await producer.stop()
    return int(sent.offset) + 2  # after the marker of the last transaction


async def until_quiet(values: list[bytes], count: int) -> None:
    async with asyncio.timeout(LIVENESS_SECONDS):
        while len(values) < count:  # noqa: ASYNC110  # the handler has no event
            await asyncio.sleep(0.05)


async def handled(kafka: str, topic: str) -> tuple[list[bytes], list[int], dict[TP, int]]:
    """Read a topic as a member of a group; write another committed transaction at its end."""
    values: list[bytes] = []
    lags: list[int] = []
    observer = SliceObserver(on_lag=lambda _topic, _partition, records: lags.append(records))
    group = Group(Settings(_env_file=None, broker=kafka), topic, observer)

    async def handle(slice_: Slice) -> None:
        values.extend(record.value for record in slice_.records)
        slice_.ack()

    group.slices([topic], handle)
    async with group.running():
        await until_quiet(values, 6)
        await write(kafka, topic, [(b"lost too", False), (b"last", True)])
        await until_quiet(values, 9)
    return values, lags, group.committed()


async def read_again(kafka: str, topic: str, end: int) -> list[bytes]:
    """Read a partition from its start to an offset, as a build of a view does."""
    values, position = list[bytes](), 0
    async with (
        asyncio.timeout(LIVENESS_SECONDS),
        PartitionReader.opened({"bootstrap_servers": kafka}, topic, 0, 100) as reader,
    ):
        while position < end:
            records, position = await reader.read(position, end)
            values += [record.value for record in records]
    return values


def test_only_committed_records_are_seen_up_to_the_end(kafka: str, unique_name: str) -> None:
    topic = f"{unique_name}.transactions"
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics([NewTopic(topic, 1, 1)])
    admin.close()
    transactions = [(b"first", True), (b"lost", False), (b"second", True), (b"lost", False)]
    end = asyncio.run(write(kafka, topic, transactions))
    assert asyncio.run(read_again(kafka, topic, end)) == [b"first"] * 3 + [b"second"] * 3
    values, lags, _ = asyncio.run(handled(kafka, topic))
    assert values == [b"first"] * 3 + [b"second"] * 3 + [b"last"] * 3
    assert lags[-1] <= 1, "the marker of the last transaction is no record"


def test_an_open_transaction_is_waited_for(kafka: str, unique_name: str) -> None:
    topic = f"{unique_name}.open"
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics([NewTopic(topic, 1, 1)])
    admin.close()
    values: list[bytes] = []

    async def handle(slice_: Slice) -> None:
        values.extend(record.value for record in slice_.records)
        slice_.ack()

    async def run() -> None:
        group = Group(Settings(_env_file=None, broker=kafka), topic, SliceObserver())
        group.slices([topic], handle)
        producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"writer of {topic}")
        await producer.start()
        async with group.running():
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"one", partition=0)
            await write_plain(kafka, topic, b"two")
            await asyncio.sleep(1)
            assert values == [], "neither the open record nor the one after it"
            await producer.commit_transaction()
            await until_quiet(values, 2)
        await producer.stop()

    asyncio.run(run())
    assert values == [b"one", b"two"]


async def write_plain(kafka: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    await producer.send_and_wait(topic, value, partition=0)
    await producer.stop()
