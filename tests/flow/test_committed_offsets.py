"""A group goes on at its committed offsets, except where they are of a topic that was deleted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from structlog.testing import capture_logs

from services.runtime.settings import Settings
from services.runtime.topic_creation import RequiredTopic, create_missing
from services.runtime.topic_watch import TopicIds, TopicWatch
from streams import committed_offsets
from streams.groups import Group
from streams.producer import BatchProducer
from streams.slices import Slice, SliceObserver
from tests.recreation import recreate, topic_ids
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


@contextlib.asynccontextmanager
async def member(settings: Settings, topic: str) -> AsyncIterator[tuple[Group, list[int]]]:
    """Yield a running group, and the list of the offsets that it has handled."""
    offsets: list[int] = []

    async def handle(slice_: Slice) -> None:
        offsets.extend(record.offset for record in slice_.records)
        slice_.ack()

    with contextlib.closing(TopicIds(settings.kafka_options())) as find_ids:
        watch = TopicWatch(find_ids)
        await watch.start([topic])
        group = Group(settings, topic, SliceObserver(), watch=watch)
        group.slices([topic], handle)
        async with group.running():
            yield group, offsets


async def read(settings: Settings, topic: str, last: int) -> list[int]:
    """Return the offsets that a group handles until it has handled the last one."""
    async with member(settings, topic) as (_, offsets):
        await until_true(lambda: last in offsets)
    return offsets


async def until_true(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIVENESS_SECONDS):
        while not condition():  # noqa: ASYNC110  # a group has no event
            await asyncio.sleep(0.05)


async def write(settings: Settings, topic: str, records: int) -> None:
    async with BatchProducer(settings.kafka_options()).running() as producer:
        await producer.send(topic, 0, [(b"k", b"v", [])] * records)


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
    asyncio.run(write(settings, unique_name, RECORDS))
    with offsets_of(settings, group) as client:
        client.assign([partition])
        client.commit({partition: OffsetAndMetadata(offset, text, -1)})
    with capture_logs() as logs:
        offsets = asyncio.run(read(settings, unique_name, RECORDS - 1))
    assert offsets == list(range(first, RECORDS))
    assert ["consumer.offset_reset" in each["event"] for each in logs].count(True) == (first == 0)
    with offsets_of(settings, group) as client:
        committed = client.committed(partition, metadata=True)
    assert committed.offset == RECORDS
    assert committed_offsets.is_of(committed.metadata, ids[unique_name])


def test_a_group_notices_that_its_topic_was_recreated_and_the_next_one_reads_it_from_its_start(
    settings: Settings, unique_name: str
) -> None:
    """An offset that could not be committed before the topic was gone is committed to the new one."""
    create_missing(settings, [RequiredTopic(unique_name, 1, {})])

    async def run() -> list[int]:
        async with member(settings, unique_name) as (group, offsets):
            await write(settings, unique_name, 90)
            await until_true(lambda: 89 in offsets)
            await asyncio.to_thread(recreate, settings, [unique_name])
            await write(settings, unique_name, RECORDS)
            await until_true(lambda: list(group.recreated) == [unique_name])
        return await read(settings, unique_name, RECORDS - 1)

    assert asyncio.run(run()) == list(range(RECORDS))


def test_a_group_reads_a_topic_that_did_not_exist_when_partitions_were_assigned(
    settings: Settings, unique_name: str
) -> None:
    """A broker that has just started may not know its topics yet, and Faust then assigns none of them."""

    async def join_first() -> list[int]:
        async with member(settings, unique_name) as (group, offsets):
            await until_true(lambda: group.assigned)
            create_missing(settings, [RequiredTopic(unique_name, 1, {})])
            await write(settings, unique_name, RECORDS)
            await until_true(lambda: RECORDS - 1 in offsets)
        return offsets

    assert asyncio.run(join_first()) == list(range(RECORDS))
