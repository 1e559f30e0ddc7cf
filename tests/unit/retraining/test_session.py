"""The Kafka side of retraining, with the topics in memory: what is read, handled, committed, written."""

import dataclasses
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaConnectionError

from services.model_registry import ledger
from services.model_registry.ledger import LedgerError
from services.retraining import session
from services.retraining.attempts import Attempts, of_text
from services.retraining.retrainer import Retrainer
from services.retraining.waiting_requests import WaitingRequests
from services.runtime import kafka_consumers
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from services.runtime.topic_identity import TopicRecreatedError
from streams import records, topics
from streams.defects import ATTEMPTS_MAX
from streams.records import Arm, ModelChanged, RetrainingFinished, RetrainingRequested
from tests.unit.drift.memory_kafka import TopicIds

if TYPE_CHECKING:
    from services.model_registry.ledger_chain import EntryDraft

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
    topic: str = topics.RETRAINING.name
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class MemoryConsumer:
    """Hands out one batch at a poll, and notes commits."""

    def __init__(self, batches: list[list[Record]]) -> None:
        self.batches = batches
        self.assigned: list[TopicPartition] = []
        self.commits: list[tuple[int, str]] = []
        self.closed: list[dict[str, Any]] = []
        self.sought: list[TopicPartition] = []
        self._cluster = TopicIds()

    def recreate(self, topic: str) -> None:
        self._cluster.recreate(topic)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        assert timeout_ms > 0
        return {session.REQUESTS: self.batches.pop(0)} if self.batches else {}

    def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        (found,) = offsets.values()
        self.commits.append((found.offset, found.metadata))

    def committed(self, _: TopicPartition, *, metadata: bool) -> OffsetAndMetadata | None:
        assert metadata
        return OffsetAndMetadata(*self.commits[-1], -1) if self.commits else None

    @property
    def position(self) -> int:
        """The committed offset; before the request there was no attempt."""
        offset, text = self.commits[-1]
        assert of_text(text) == Attempts(offset, topic_id=self._cluster.topic_id(session.REQUESTS.topic))
        return offset

    def seek_to_beginning(self, partition: TopicPartition) -> None:
        self.sought.append(partition)

    def close(self, **options: Any) -> None:
        self.closed.append(options)


class MemoryProducer:
    def __init__(self, _: Settings) -> None:
        self.sent: list[tuple[str, bytes, bytes, list[str]]] = []

    def send(self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> int:
        self.sent.append((topic, key, value, [name for name, _ in headers]))
        return 0

    def close(self) -> None:
        """Be closed."""


class World:
    """Topics by name, and the one consumer and producer of a session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = (topics.RETRAINING.name, topics.MODELS.name, topics.LEDGER.name)
        self.topics: dict[str, list[Record]] = {name: [] for name in names}
        self.entries: list[EntryDraft] = []
        self.consumer = MemoryConsumer([])
        self.producer = MemoryProducer(Settings(_env_file=None))
        self.options: dict[str, Any] = {}
        self.faults: dict[str, str] = {}
        self.waiting = WaitingRequests()
        monkeypatch.setattr(session, "warm_up", lambda _: None)
        monkeypatch.setattr(session, "RecordProducer", lambda _: self.producer)
        monkeypatch.setattr(kafka_consumers, "connect", self.connect)
        monkeypatch.setattr(kafka_consumers, "read_topic", self.read)
        monkeypatch.setattr(kafka_consumers, "partition_count", self.count)
        monkeypatch.setattr(ledger, "append", lambda _, drafts, source: self.entries.extend(drafts))

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
        folder = cast("Any", SimpleNamespace(valid={}, faults=self.faults))
        quarantine = Quarantine("retraining")
        own = Settings(_env_file=None, **settings)
        return session.opened(own, folder, quarantine, self.waiting, threading.Event())

    def results(self) -> dict[str, str]:
        """Return the first reason of each result that was written, by request."""
        decode = records.decoder_of(records.RetrainingFinished).decode
        found = [
            decode(value) for topic, _, value, _ in self.producer.sent if topic == topics.RETRAINING.name
        ]
        return {each.request_id: each.reasons[0] for each in found}


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
    assert world.consumer.position == 1


def test_a_topic_that_is_recreated_ends_the_session(world: World) -> None:
    with world.opened() as running:
        running.step()
        world.consumer.recreate(topics.RETRAINING.name)
        with pytest.raises(TopicRecreatedError, match=topics.RETRAINING.name):
            running.step()


def test_an_offset_of_a_topic_that_was_deleted_is_not_used(world: World) -> None:
    """It may have been committed after the topic was recreated, when a long training ended."""
    world.consumer.batches = [[Record(records.encode(REQUEST), 40)]]
    with world.opened() as running:
        running.step()
    with world.opened():
        assert world.consumer.sought == []
    world.consumer.recreate(topics.RETRAINING.name)
    with world.opened():
        assert world.consumer.sought == [session.REQUESTS]


def test_a_request_that_has_its_result_is_only_committed(world: World) -> None:
    world.topics[topics.RETRAINING.name] = [Record(records.encode(REQUEST)), Record(records.encode(FINISHED))]
    world.consumer.batches = [[Record(records.encode(REQUEST))]]
    with world.opened() as running:
        running.step()
    assert world.producer.sent == []
    assert world.consumer.position == 1


@pytest.mark.parametrize("value", [b"{", b"[" * 100_000])
def test_a_record_that_cannot_be_decoded_becomes_a_dead_letter(world: World, value: bytes) -> None:
    world.consumer.batches = [[Record(value)], [Record(records.encode(REQUEST), 1)]]
    with world.opened() as running:
        running.step()
        running.step()
    (first, _, letter, _), (second, _, _, _) = world.producer.sent
    assert (first, second) == (topics.DEAD_LETTERS.name, topics.RETRAINING.name)
    assert records.decoder_of(records.DeadLetter).decode(letter).value == value
    assert world.consumer.position == 2


class Killed(BaseException):
    """The process ends at once."""


@pytest.mark.parametrize("kill", [Killed, ZeroDivisionError])
def test_a_request_that_fails_again_and_again_does_not_stop_the_next_one(
    world: World, monkeypatch: pytest.MonkeyPatch, kill: type[BaseException]
) -> None:
    handled = []

    def handle(_self: Any, request: RetrainingRequested) -> None:
        handled.append(request.request_id)
        if request.request_id == "r1":
            raise kill

    monkeypatch.setattr(Retrainer, "handle", handle)
    next_request = msgspec.structs.replace(REQUEST, request_id="r2")
    for _ in range(ATTEMPTS_MAX):
        world.consumer.batches = [[Record(records.encode(REQUEST))]]
        with pytest.raises(kill), world.opened() as running:
            running.step()
    world.consumer.batches = [[Record(records.encode(REQUEST))], [Record(records.encode(next_request), 1)]]
    with world.opened() as running:
        running.step()
        running.step()
    assert handled == ["r1"] * ATTEMPTS_MAX + ["r2"]
    ((_, _, value, _),) = world.producer.sent
    finished = records.decoder_of(records.RetrainingRecord).decode(value)
    assert (finished.request_id, finished.result) == ("r1", "failed")
    assert ("check its memory" if kill is Killed else "ZeroDivisionError") in finished.reasons[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), KafkaConnectionError()])
def test_a_stop_and_an_outage_are_no_attempts(
    world: World, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def handle(_self: Any, _request: RetrainingRequested) -> None:
        raise error

    monkeypatch.setattr(Retrainer, "handle", handle)
    for _ in range(2 * ATTEMPTS_MAX):
        world.consumer.batches = [[Record(records.encode(REQUEST))]]
        with pytest.raises(type(error)), world.opened() as running:
            running.step()
    assert world.producer.sent == []


def test_a_request_waits_until_the_declaration_of_its_model_is_valid(world: World) -> None:
    """Requests of other models are handled meanwhile; after a restart nothing is handled twice."""
    other = msgspec.structs.replace(REQUEST, request_id="r2", model="arrival")
    world.topics[topics.RETRAINING.name] = requests = [
        Record(records.encode(request), offset) for offset, request in enumerate((REQUEST, other))
    ]
    world.faults = {"delay": "delay/model.yaml:3:1: unknown setting"}
    for _ in range(2):  # the process is restarted
        world.consumer.batches = [[each] for each in requests]
        with world.opened() as running:
            running.step()
            running.step()
        assert world.results() == {"r2": "there is no model 'arrival'; declared models: "}
        assert world.waiting.detail() == {
            "retrainings_waiting": {
                "delay": ["r1: its model.yaml is invalid: delay/model.yaml:3:1: unknown setting"]
            }
        }
        assert world.consumer.commits[-1][0] == 0
        requests.append(Record(world.producer.sent[0][2], len(requests)))
    world.faults = {}
    world.consumer.batches = [[each] for each in requests]
    with world.opened() as running:
        for _ in requests:
            running.step()
    assert set(world.results()) == {"r1", "r2"}
    assert world.waiting.detail() == {}
    assert world.consumer.position == len(requests)


def test_attempts_at_a_request_are_counted_while_an_earlier_one_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handle(_self: Any, _request: RetrainingRequested) -> None:
        raise Killed

    monkeypatch.setattr(Retrainer, "handle", handle)
    world.faults = {"delay": "invalid"}
    done = msgspec.structs.replace(REQUEST, request_id="r2", model="arrival")
    deadly = msgspec.structs.replace(REQUEST, request_id="r3", model="arrival")
    answer = msgspec.structs.replace(FINISHED, request_id="r2", model="arrival")
    found = [Record(records.encode(each), at) for at, each in enumerate((REQUEST, done, answer, deadly))]
    world.topics[topics.RETRAINING.name] = found
    for _ in range(ATTEMPTS_MAX):
        world.consumer.batches = [[each] for each in found]
        with world.opened() as running:
            for _ in found[:-1]:
                running.step()
            with pytest.raises(Killed):
                running.step()
    world.consumer.batches = [[each] for each in found]
    with world.opened() as running:
        for _ in found:
            running.step()
    assert list(world.results()) == ["r3"]
    assert world.consumer.commits[-1][0] == 0


@pytest.mark.parametrize("value", [None, records.encode(FINISHED)])
def test_what_is_no_request_is_only_committed(world: World, value: bytes | None) -> None:
    world.consumer.batches = [[Record(value)]]
    with world.opened() as running:
        running.step()
    assert world.producer.sent == []
    assert world.consumer.position == 1


def test_ledger_has_reason_and_result_of_a_request_before_its_result_is_written(world: World) -> None:
    world.consumer.batches = [[Record(records.encode(REQUEST))]]
    with world.opened() as running:
        running.step()
    assert [draft.entry_id for draft in world.entries] == [
        f"{REQUEST.request_id}/trigger",
        f"{REQUEST.request_id}/retraining_finished",
    ]
    assert world.entries[0].evidence["reason"] == REQUEST.reason


def test_result_is_not_written_without_the_ledger(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is then repeated, and the ledger is not left without its entries."""

    def fail(*_: object) -> None:
        raise LedgerError

    monkeypatch.setattr(ledger, "append", fail)
    world.consumer.batches = [[Record(records.encode(REQUEST))]]
    with world.opened() as running, pytest.raises(LedgerError):
        running.step()
    assert world.results() == {}


def test_a_session_waits_for_the_ledger(world: World) -> None:
    del world.topics[topics.LEDGER.name]
    with pytest.raises(MissingTopicError), world.opened():
        pass


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
