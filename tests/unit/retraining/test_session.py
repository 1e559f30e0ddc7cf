"""The Kafka side of retraining, with the topics in memory: what is read, handled, committed, written."""

import dataclasses
import threading
from typing import Any

import pytest
from kafka import TopicPartition

from services.retraining import session
from services.runtime import kafka_consumers
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams import records, topics
from streams.records import Arm, ModelChanged, RetrainingFinished, RetrainingRequested

REQUEST = RetrainingRequested(
    request_id="r1", model="delay", trigger="manual", requested_at_ms=1, reason="by hand"
)
FINISHED = RetrainingFinished(
    request_id="r1", model="delay", trigger="manual", requested_at_ms=1, result="failed", version=0
)
CHANGE = ModelChanged(
    model="delay",
    arms=[Arm(name="champion", version=3, weight=10_000)],
    changed_at_ms=1,
    reason="",
)


@dataclasses.dataclass
class Record:
    value: bytes | None
    offset: int = 0


class MemoryConsumer:
    """Hands out one batch at a poll, and notes commits."""

    def __init__(self, batches: list[list[Record]]) -> None:
        self.batches = batches
        self.assigned: list[TopicPartition] = []
        self.commits = 0
        self.closed: list[dict[str, Any]] = []

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        assert timeout_ms > 0
        return {session.REQUESTS: self.batches.pop(0)} if self.batches else {}

    def commit(self) -> None:
        self.commits += 1

    def close(self, **options: Any) -> None:
        self.closed.append(options)


class MemoryProducer:
    def __init__(self, _: Settings) -> None:
        self.sent: list[tuple[str, bytes, bytes, list[str]]] = []

    def send(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> int:
        self.sent.append((topic, key, value, [name for name, _ in headers]))
        return 0

    def close(self) -> None:
        """Be closed."""


class World:
    """Topics by name, and the one consumer and producer of a session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topics: dict[str, list[Record]] = {topics.RETRAINING.name: [], topics.MODELS.name: []}
        self.consumer = MemoryConsumer([])
        self.producer = MemoryProducer(Settings(_env_file=None))
        self.options: dict[str, Any] = {}
        monkeypatch.setattr(session, "warm_up", lambda _: None)
        monkeypatch.setattr(session, "RecordProducer", lambda _: self.producer)
        monkeypatch.setattr(kafka_consumers, "connect", self.connect)
        monkeypatch.setattr(kafka_consumers, "read_topic", self.read)
        monkeypatch.setattr(kafka_consumers, "partition_count", self.count)

    def connect(self, _settings: Settings, _name: str, **options: Any) -> MemoryConsumer:
        self.options = options
        return self.consumer

    def read(self, _settings: Settings, _name: str, topic: str) -> list[Record]:
        return self.topics[topic]

    def count(self, _consumer: Any, topic: str) -> int:
        if topic not in self.topics:
            raise MissingTopicError(f"there is no topic {topic}")
        return 1

    def opened(self, **settings: Any) -> Any:
        return session.opened(Settings(_env_file=None, **settings), {}, threading.Event())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_session_waits_for_its_topic_and_closes_its_clients(world: World) -> None:
    del world.topics[topics.RETRAINING.name]
    with pytest.raises(MissingTopicError), world.opened():
        pass
    assert world.consumer.closed == [{"autocommit": False, "timeout_ms": session.CLOSE_MS}]


def test_a_session_reads_one_request_at_a_time_from_an_assigned_partition(world: World) -> None:
    with world.opened():
        pass
    assert world.consumer.assigned == [TopicPartition(topics.RETRAINING.name, 0)]
    assert world.options == {"group_id": session.GROUP, "max_poll_records": 1}


def test_a_request_without_a_result_is_handled_and_then_committed(world: World) -> None:
    world.consumer.batches = [[Record(records.encode(REQUEST))]]
    with world.opened() as running:
        running.step()
    ((topic, key, value, headers),) = world.producer.sent
    finished = records.decoder_of(records.RetrainingRecord).decode(value)
    assert (topic, key, finished.request_id) == (topics.RETRAINING.name, b"delay", "r1")
    assert finished.result == "failed"
    assert "ce_id" in headers
    assert world.consumer.commits == 1


def test_a_request_that_has_its_result_is_only_committed(world: World) -> None:
    world.topics[topics.RETRAINING.name] = [Record(records.encode(REQUEST)), Record(records.encode(FINISHED))]
    world.consumer.batches = [[Record(records.encode(REQUEST))]]
    with world.opened() as running:
        running.step()
    assert world.producer.sent == []
    assert world.consumer.commits == 1


@pytest.mark.parametrize("value", [None, b"{", records.encode(FINISHED)])
def test_what_is_no_request_is_only_committed(world: World, value: bytes | None) -> None:
    world.consumer.batches = [[Record(value)]]
    with world.opened() as running:
        running.step()
    assert world.producer.sent == []
    assert world.consumer.commits == 1


def test_headers_are_left_out_where_cloud_events_are_off(world: World) -> None:
    with world.opened(cloud_events="none") as running:
        running.publish_result(FINISHED)
    assert [headers for *_, headers in world.producer.sent] == [[]]


def test_a_topic_that_does_not_exist_has_no_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(_: Any, topic: str) -> list[int]:
        if topic == "there":
            return [4, 5]
        raise MissingTopicError("there is no such topic")

    with world.opened() as running:
        monkeypatch.setattr(kafka_consumers, "end_offsets", ends)
        assert running.end_offsets(["there", "away"]) == {"there": [4, 5], "away": []}
