"""Records of aborted or open transactions are not read, and reads to the end of a topic do end."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from services.archive import archiver
from services.runtime import kafka_consumers
from services.runtime.settings import Settings

TEXTS = [b"a", b"b", b"c"]


@pytest.fixture
def local(kafka: str) -> Settings:
    return Settings().model_copy(update={"broker": kafka})


@pytest.fixture
def topic(kafka: str, unique_name: str) -> str:
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=kafka)) as admin:
        admin.create_topics([NewTopic(unique_name, 1, 1)])
    return unique_name


@pytest.fixture
def producer(kafka: str, unique_name: str) -> Iterator[Any]:
    with contextlib.closing(KafkaProducer(bootstrap_servers=kafka, transactional_id=unique_name)) as producer:
        producer.init_transactions()
        yield producer


def send(producer: Any, topic: str, *values: bytes) -> None:
    for value in values:
        producer.send(topic, key=value, value=value)
    producer.flush()


def read(local: Settings, topic: str) -> list[bytes]:
    return [record.value for record in kafka_consumers.read_topic(local, "test", topic)]


def test_only_committed_records_are_read_to_the_end(local: Settings, topic: str, producer: Any) -> None:
    for number, text in enumerate(TEXTS):
        producer.begin_transaction()
        send(producer, topic, text)
        producer.commit_transaction()
        producer.begin_transaction()
        send(producer, topic, b"aborted %d" % number)
        producer.abort_transaction()
        assert read(local, topic) == TEXTS[: number + 1], "the topic ends with a marker of an aborted one"
    producer.begin_transaction()
    send(producer, topic, b"open")
    assert read(local, topic) == TEXTS, "the end is that before the open transaction"
    producer.commit_transaction()
    assert read(local, topic) == [*TEXTS, b"open"]


def test_the_last_values_of_keys_are_committed_ones(local: Settings, topic: str, producer: Any) -> None:
    for key, value, ends in ((b"k", b"1", True), (b"k", b"2", False), (b"l", b"3", True)):
        producer.begin_transaction()
        producer.send(topic, key=key, value=value)
        producer.commit_transaction() if ends else producer.abort_transaction()
    with contextlib.closing(kafka_consumers.connect(local, "test")) as consumer:
        found = kafka_consumers.latest_values(consumer, TopicPartition(topic, 0), [b"k", b"l"])
    assert {key: value.value for key, value in found.items()} == {b"k": b"1", b"l": b"3"}


def test_the_archive_reads_committed_records(local: Settings, topic: str, producer: Any) -> None:
    producer.begin_transaction()
    send(producer, topic, b"aborted")
    producer.abort_transaction()
    producer.begin_transaction()
    send(producer, topic, b"committed")
    producer.commit_transaction()

    async def first_value() -> Any:
        consumer = archiver.connect(local)
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, 0)])
            consumer.seek(TopicPartition(topic, 0), 0)
            return (await consumer.getone()).value
        finally:
            await consumer.stop()

    assert asyncio.run(first_value()) == b"committed"
