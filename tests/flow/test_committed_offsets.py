"""A group goes on at its committed offsets, except where they are of a topic that was deleted."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping

import pytest
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from structlog.testing import capture_logs

from services.runtime.settings import Settings
from services.runtime.topic_creation import RequiredTopic, create_missing, topic_ids
from streams import committed_offsets
from streams.groups import Group
from streams.producer import BatchProducer
from streams.slices import Slice, SliceObserver
from tests.waiting import LIVENESS_SECONDS

RECORDS = 5


@pytest.fixture
def settings(kafka: str) -> Settings:
    """Settings without other servers."""
    return Settings(_env_file=None, broker=kafka)


@contextlib.contextmanager
def offsets_of(settings: Settings, group: str) -> Iterator[KafkaConsumer]:
    """Yield a client that commits and reads the offsets of a group while the group has no members."""
    consumer = KafkaConsumer(**settings.kafka_options(), group_id=group, enable_auto_commit=False)
    with contextlib.closing(consumer):
        yield consumer


async def read(settings: Settings, topic: str, ids: Mapping[str, str]) -> list[int]:
    """Write some records after the group has its partition; return the offsets that it handles up to them."""
    offsets: list[int] = []
    is_read = asyncio.Event()

    async def handle(slice_: Slice) -> None:
        offsets.extend(record.offset for record in slice_.records)
        slice_.ack()
        if slice_.records[-1].value == b"last":
            is_read.set()

    group = Group(settings, topic, SliceObserver())
    group.topic_ids = ids
    group.slices([topic], handle)
    async with asyncio.timeout(LIVENESS_SECONDS):
        async with group.running(), BatchProducer(settings.kafka_options()).running() as producer:
            await producer.send(topic, 0, [(b"k", b"last", [])])
            await is_read.wait()
        return offsets


@pytest.mark.parametrize(
    ("offset", "of_id", "first"),
    [
        (3, "the present", 3),
        (3, "another", 0),
        (3, "", 3),
        (RECORDS + 90, "another", 0),
        (RECORDS + 90, "", 0),
    ],
)
def test_an_offset_of_a_former_topic_is_not_used(
    settings: Settings, unique_name: str, offset: int, of_id: str, first: int
) -> None:
    group, partition = f"driftline.{unique_name}", TopicPartition(unique_name, 0)
    create_missing(settings, [RequiredTopic(unique_name, 1, {})])
    ids = topic_ids(settings, [unique_name])
    text = committed_offsets.text_of(ids[unique_name] if of_id == "the present" else of_id)
    asyncio.run(fill(settings, unique_name))
    with offsets_of(settings, group) as client:
        client.assign([partition])
        client.commit({partition: OffsetAndMetadata(offset, text, -1)})
    with capture_logs() as logs:
        offsets = asyncio.run(read(settings, unique_name, ids))
    assert offsets == list(range(first, RECORDS + 1))
    assert ["consumer.offset_reset" in each["event"] for each in logs].count(True) == (first == 0)
    with offsets_of(settings, group) as client:
        committed = client.committed(partition, metadata=True)
    assert committed.offset == RECORDS + 1
    assert committed_offsets.is_of(committed.metadata, ids[unique_name])


async def fill(settings: Settings, topic: str) -> None:
    async with BatchProducer(settings.kafka_options()).running() as producer:
        await producer.send(topic, 0, [(b"k", b"v", [])] * RECORDS)
