"""The models topic is followed on a real broker, also after it was truncated or made anew."""

import asyncio
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from services.scoring.models_follower import ModelsFollower
from streams import records
from streams.records import Arm, ModelChanged
from tests.waiting import LIVENESS_SECONDS, until


class Topic:
    """A models topic of the test's own."""

    def __init__(self, broker: str, name: str) -> None:
        self.name = name
        self.options = {"bootstrap_servers": broker}
        self._admin = KafkaAdminClient(**self.options)
        self.create()

    def create(self) -> None:
        self._admin.create_topics([NewTopic(self.name, 1, 1)])
        until(lambda: self.name in self._admin.list_topics(), "the topic is there")

    def delete(self) -> None:
        self._admin.delete_topics([self.name])
        until(lambda: self.name not in self._admin.list_topics(), "the topic is gone")

    def write(self, *versions: int) -> None:
        producer = KafkaProducer(**self.options)
        for version in versions:
            arms = [Arm(name="champion", version=version, weight=10_000)]
            change = ModelChanged(model="m", arms=arms, changed_at_ms=0, reason="test")
            producer.send(self.name, records.encode(change), b"m").get(LIVENESS_SECONDS)
        producer.close()

    def truncate(self, offset: int) -> None:
        """Delete the records before an offset, as retention does."""
        partition = TopicPartition(self.name, 0)
        self._admin.delete_records({partition: offset})
        with KafkaConsumer(**self.options) as consumer:
            until(lambda: consumer.beginning_offsets([partition])[partition] == offset, "they are deleted")


class Versions:
    """Keeps the versions of one model's champion."""

    name = "m"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def change(self, change: ModelChanged, *, lazily: bool = False) -> None:
        self.seen.append(change.arms[0].version)


@pytest.fixture
def topic(kafka: str, unique_name: str) -> Topic:
    return Topic(kafka, f"{unique_name}.models")


def follow(topic: Topic, *steps: Any) -> list[list[int]]:
    """Follow the topic; take each step in a thread, and return what was seen before and after each."""

    async def run() -> list[list[int]]:
        versions: Any = Versions()
        follower = ModelsFollower(topic.options, topic=topic.name)
        follower.add(versions)
        async with follower.running():
            seen = [list(versions.seen)]
            for step in steps:
                expected = await asyncio.to_thread(step)
                async with asyncio.timeout(LIVENESS_SECONDS):
                    while not versions.seen or versions.seen[-1] != expected:  # noqa: ASYNC110  # no event
                        await asyncio.sleep(0.05)
                seen.append(list(versions.seen))
            assert follower.failure is None
        return seen

    return asyncio.run(run())


def test_a_topic_that_was_truncated_is_read_from_what_is_left(topic: Topic) -> None:
    topic.write(1, 2, 3)
    topic.truncate(2)
    assert follow(topic) == [[3]]


def test_a_topic_that_is_recreated_is_read_from_its_start(topic: Topic) -> None:
    """The new topic is shorter than the position in the old one."""
    topic.write(1, 2, 3)

    def recreate() -> int:
        topic.delete()
        topic.create()
        topic.write(7)
        return 7

    def write_another() -> int:
        topic.write(8)
        return 8

    assert follow(topic, recreate, write_another) == [[3], [3, 7], [3, 7, 8]]
