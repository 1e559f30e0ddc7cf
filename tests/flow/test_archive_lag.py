"""The lag of the archive returns to zero by itself: its commits follow what it reads, not only its rows."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.structs import OffsetAndMetadata
from kafka.admin import KafkaAdminClient, NewTopic

from services.archive import archiver, idle_offsets, row_schemas, write_buffer
from services.archive.archiver import Archiver
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from tests.flow.test_batch_transactions import write
from tests.unit.archive.kafka_records import MemoryLetters, outcome
from tests.waiting import LIVENESS_SECONDS


async def archive_until(settings: Settings, topic: str, end: int) -> MemoryLetters:
    """Archive a topic until the group has committed an offset; return the dead letters."""
    stopping, letters = asyncio.Event(), MemoryLetters()
    consumer = archiver.connect(settings)
    tables = Quarantine("archive", "table")
    subject = Archiver(settings, {topic: row_schemas.OUTCOMES}, consumer, letters, tables, lambda _: {})
    task = asyncio.create_task(subject.run(stopping))
    try:
        async with asyncio.timeout(LIVENESS_SECONDS):
            while await committed(settings, topic) != end:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.1)
    finally:
        stopping.set()
        await task
    return letters


async def committed(settings: Settings, topic: str) -> int | None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(archiver.GROUP)
    except GroupCoordinatorNotAvailableError:  # the group is being created
        return None
    finally:
        await admin.close()
    place = found.get(TopicPartition(topic, 0))
    return None if place is None else place.offset


async def set_back(settings: Settings, topic: str) -> None:
    """Leave the offset behind the table, as a kill between the two commits does."""
    consumer = archiver.connect(settings)
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.start()
    await consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(1, "")})
    await consumer.stop()


@pytest.fixture
def settings(kafka: str, unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(archiver, "GROUP", f"{unique_name}.archive")
    monkeypatch.setattr(write_buffer, "COMMIT_SECONDS", 0.5)
    monkeypatch.setattr(idle_offsets, "CHECK_SECONDS", 0.5)
    return Settings(_env_file=None, broker=kafka, home=tmp_path)


def test_the_lag_returns_to_zero_without_a_request_and_after_a_kill(
    settings: Settings, unique_name: str
) -> None:
    """After good records, garbage, and a transaction that was aborted at the end of the topic."""
    topic = f"{unique_name}.m"  # the model of the outcomes
    admin = KafkaAdminClient(bootstrap_servers=settings.broker)
    admin.create_topics([NewTopic(topic, 1, 1)])
    admin.close()
    transactions = [(outcome(0), True), (b"{garbage", True), (b"lost", False)]
    end = asyncio.run(write(settings.broker, topic, transactions))
    letters = asyncio.run(archive_until(settings, topic, end))
    assert len(letters.letters) == 3
    asyncio.run(set_back(settings, topic))
    assert asyncio.run(archive_until(settings, topic, end)).letters == []
