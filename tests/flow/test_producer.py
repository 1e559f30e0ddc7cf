"""Writes to a real broker: what it refuses costs that record alone, and never the partition."""

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from services.runtime import kafka_producers
from services.runtime.kafka_outbox import Outbox
from services.runtime.settings import Settings
from streams import aiokafka_internals, records, topics
from streams.aiokafka_internals import RecordRefusedError
from streams.producer import BatchProducer, Record, RecordTooLargeError
from streams.topic_limits import TopicLimits

LIMIT_BYTES = 1 << 20


async def create(kafka: str, topic: str, **config: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        settings = {"max.message.bytes": str(LIMIT_BYTES)} | {
            k.replace("_", "."): v for k, v in config.items()
        }
        await admin.create_topics([NewTopic(topic, 2, 1, topic_configs=settings)])
    finally:
        await admin.close()


async def values(kafka: str, topic: str, partition: int = 0) -> list[bytes | None]:
    """Return the values of a partition from its first to its last record."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        place = TopicPartition(topic, partition)
        end = (await consumer.end_offsets([place]))[place]
        consumer.assign([place])
        consumer.seek(place, 0)
        found: list[bytes | None] = []
        while await consumer.position(place) < end:
            for batch in (await consumer.getmany(place, timeout_ms=500)).values():
                found += [each.value for each in batch]
        return found
    finally:
        await consumer.stop()


def running(kafka: str, work: Callable[[BatchProducer], Awaitable[None]]) -> None:
    async def run() -> None:
        one = BatchProducer({"bootstrap_servers": kafka})
        async with one.running():
            await work(one)

    asyncio.run(run())


def record(value: bytes, key: bytes | None = b"k") -> Record:
    return key, value, []


def test_the_brokers_refusal_costs_that_record_alone(
    kafka: str, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequence numbers are taken and lost here: the check before that is switched off."""

    async def unknown(_: TopicLimits, __: str) -> None:
        return None

    monkeypatch.setattr(TopicLimits, "bytes_max", unknown)

    async def work(one: BatchProducer) -> None:
        await create(kafka, unique_name)
        await one.send(unique_name, 0, [record(b"first")])
        for _ in range(2):
            with pytest.raises(RecordTooLargeError, match="exceeds the topic's limit"):
                await one.send(unique_name, 0, [record(b"before"), record(b"x" * LIMIT_BYTES)])
            await one.send(unique_name, 0, [record(b"after")])
        await one.send(unique_name, 1, [record(b"other partition")])

    running(kafka, work)
    assert asyncio.run(values(kafka, unique_name)) == [b"first", b"before", b"after", b"before", b"after"]
    assert asyncio.run(values(kafka, unique_name, 1)) == [b"other partition"]


def test_a_record_too_large_is_found_before_anything_is_written(kafka: str, unique_name: str) -> None:
    """The largest record that fits is written: Kafka's overhead is counted exactly."""
    overhead_bytes = 61 + 20

    async def work(one: BatchProducer) -> None:
        await create(kafka, unique_name)
        with pytest.raises(RecordTooLargeError, match=f"{unique_name} exceeds {LIMIT_BYTES} bytes"):
            await one.send(unique_name, 0, [record(b"before"), record(b"x" * LIMIT_BYTES)])
        await one.send(unique_name, 0, [record(b"x" * (LIMIT_BYTES - overhead_bytes))])

    running(kafka, work)
    assert [len(each or b"") for each in asyncio.run(values(kafka, unique_name))] == [
        LIMIT_BYTES - overhead_bytes
    ]


def test_a_topic_with_a_limit_below_our_batches_gets_smaller_ones(kafka: str, unique_name: str) -> None:
    batch = [record(b"%d" % number * 1000) for number in range(200)]

    async def work(one: BatchProducer) -> None:
        await create(kafka, unique_name, max_message_bytes="50000")
        await one.send(unique_name, 0, batch)

    running(kafka, work)
    assert asyncio.run(values(kafka, unique_name)) == [value for _, value, _ in batch]


def test_a_record_that_a_topic_does_not_take_is_named_and_the_next_one_is_written(
    kafka: str, unique_name: str
) -> None:
    async def work(one: BatchProducer) -> None:
        await create(kafka, unique_name, cleanup_policy="compact")
        with pytest.raises(RecordRefusedError):
            await one.send(unique_name, 0, [record(b"a"), record(b"without a key", None)])
        await one.send(unique_name, 0, [record(b"b")])

    running(kafka, work)
    assert asyncio.run(values(kafka, unique_name)) == [b"a", b"b"]


def test_concurrent_writers_lose_and_reorder_nothing_while_one_of_them_fails(
    kafka: str, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(_: TopicLimits, __: str) -> None:
        return None

    monkeypatch.setattr(TopicLimits, "bytes_max", unknown)
    count = 60

    async def write(one: BatchProducer, name: str, partition: int) -> None:
        for number in range(count):
            await one.send(unique_name, partition, [record(b"%s %d" % (name.encode(), number))])

    async def fail(one: BatchProducer) -> None:
        for _ in range(8):
            with pytest.raises(RecordTooLargeError):
                await one.send(unique_name, 0, [record(b"x" * LIMIT_BYTES)])

    async def work(one: BatchProducer) -> None:
        await create(kafka, unique_name)
        await asyncio.gather(
            fail(one), *(write(one, name, partition) for name in "ab" for partition in (0, 1))
        )

    running(kafka, work)
    for partition in (0, 1):
        arrived = asyncio.run(values(kafka, unique_name, partition))
        for name in (b"a", b"b"):
            assert [v for v in arrived if v and v.startswith(name)] == [
                b"%s %d" % (name, number) for number in range(count)
            ]


def test_the_sequence_number_after_the_last_one_is_taken(kafka: str, unique_name: str) -> None:
    """Without a write of 2^31 records: the broker takes the first number of a producer as it is."""

    async def work(one: BatchProducer) -> None:
        await create(kafka, unique_name)
        connection = one._connection
        assert connection is not None
        manager = connection._producer._txn_manager
        manager._sequence_numbers[TopicPartition(unique_name, 0)] = aiokafka_internals.SEQUENCES - 3
        await one.send(unique_name, 0, [record(b"%d" % number) for number in range(5)])
        await one.send(unique_name, 0, [record(b"%d" % number) for number in range(5, 8)])
        assert one._connection is connection

    running(kafka, work)
    assert asyncio.run(values(kafka, unique_name)) == [b"%d" % number for number in range(8)]


def test_the_limit_of_a_topic_is_that_of_its_broker(kafka: str, unique_name: str) -> None:
    async def run() -> list[int | None]:
        await create(kafka, unique_name, max_message_bytes="12345")
        limits = TopicLimits({"bootstrap_servers": kafka})
        return [await limits.bytes_max(unique_name), await limits.bytes_max(f"{unique_name}-missing")]

    assert asyncio.run(run()) == [12345, None]


def test_letters_of_any_size_are_written(kafka: str, unique_name: str) -> None:
    decode = records.decoder_of(records.DeadLetter).decode
    topic = unique_name

    def letter(size_bytes: int) -> records.DeadLetter:
        return records.DeadLetter(
            service="s",
            reason="bad",
            topic="orders",
            partition=0,
            offset=size_bytes,
            key=None,
            value=b"x" * size_bytes,
            failed_time_ms=1,
        )

    async def run() -> None:
        await create(kafka, topic)
        one = BatchProducer({"bootstrap_servers": kafka})
        async with one.running():
            await one.send_dead_letters(
                [letter(10), letter(7 << 20), letter(700_000), *[letter(100_000)] * 20]
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topics, "DEAD_LETTERS", dataclasses.replace(topics.DEAD_LETTERS, name=topic))
        asyncio.run(run())
    found = [decode(value or b"") for value in asyncio.run(values(kafka, topic))]
    assert [each.offset for each in found] == [10, 7 << 20, 700_000, *[100_000] * 20]
    assert [each.cut_from_bytes for each in found] == [None, 7 << 20, *[None] * 21]


def test_the_blocking_producer_writes_the_record_after_a_refused_one(kafka: str, unique_name: str) -> None:
    asyncio.run(create(kafka, unique_name))
    with kafka_producers.connected(Settings().model_copy(update={"broker": kafka})) as one:
        assert one.send(unique_name, b"k", b"first") == 0
        for _ in range(2):
            with pytest.raises(KafkaError):
                one.send(unique_name, b"k", b"x" * 2 * LIMIT_BYTES)
        assert one.send(unique_name, b"k", b"after") == 1


def test_the_outbox_leaves_out_what_does_not_fit_and_goes_on(kafka: str, unique_name: str) -> None:
    asyncio.run(create(kafka, unique_name))
    outbox = Outbox("test", {"bootstrap_servers": kafka}, threading.Event())
    try:
        large = record(b"x" * LIMIT_BYTES)
        outbox.write_what_fits(
            {(unique_name, 0): [record(b"a"), large, record(b"b")], (unique_name, 1): [large]}
        )
        with pytest.raises(RecordTooLargeError):
            outbox.write({(unique_name, 0): [large]})
        outbox.write({(unique_name, 0): [record(b"c")]})
    finally:
        outbox.close()
    assert asyncio.run(values(kafka, unique_name)) == [b"a", b"b", b"c"]
    assert asyncio.run(values(kafka, unique_name, 1)) == []
