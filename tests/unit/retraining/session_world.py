"""A session of retraining with its topics and its trainings in memory."""

import dataclasses
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from kafka import OffsetAndMetadata, TopicPartition

from services.model_registry import ledger
from services.retraining import session, trainings
from services.retraining.attempts import OpenAttempts, of_text
from services.retraining.request_api import RequestInbox
from services.retraining.request_queue import RequestQueue
from services.runtime import kafka_consumers
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from streams import records, topics
from streams.records import Arm, LedgerEntry, ModelChanged, RetrainingFinished, RetrainingRequested
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
        assert of_text(text) == OpenAttempts(topic_id=self._cluster.topic_id(session.REQUESTS.topic))
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
        self.queue = RequestQueue()
        self.inbox = RequestInbox()
        self.valid: dict[str, Any] = {}
        self.results_of: dict[str, list[Any]] = {}
        """What the process of a request gives, by request and attempt; `None`: it works."""
        self.started: list[str] = []
        self.killed: list[str] = []
        self.servers: list[int] = []
        """How many trainings had begun whenever the server of the trainings was asked for."""
        self.time = 0.0
        monkeypatch.setattr(trainings, "start_training", self.start)
        monkeypatch.setattr(trainings, "training_server", lambda: self.servers.append(len(self.started)))
        monkeypatch.setattr("services.retraining.trainings.time.monotonic", lambda: self.time)
        monkeypatch.setattr(session, "PlanWatch", lambda _: SimpleNamespace(refresh=bool))
        monkeypatch.setattr(session, "RecordProducer", lambda _: self.producer)
        monkeypatch.setattr(kafka_consumers, "connect", self.connect)
        monkeypatch.setattr(kafka_consumers, "read_topic", self.read)
        monkeypatch.setattr(kafka_consumers, "partition_count", self.count)
        self.recorded: list[LedgerEntry] = []
        """The entries of the ledger at the start of a session."""
        monkeypatch.setattr(ledger, "append", lambda _, drafts, source: self.entries.extend(drafts))
        monkeypatch.setattr(ledger, "read", lambda _: self.recorded)

    def refresh(self) -> frozenset[str]:
        return frozenset()

    def start(self, run: Any, _settings: Settings, _limits: Any) -> Any:
        self.started.append(run.name)
        given = self.results_of[run.name]

        def result() -> Any:
            return given.pop(0) if given else None

        return SimpleNamespace(pid=1, result=result, kill=lambda: self.killed.append(run.name))

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
        folder = cast("Any", SimpleNamespace(valid=self.valid, faults=self.faults, refresh=self.refresh))
        quarantine = Quarantine("retraining")
        own = Settings(_env_file=None, **settings)
        return session.opened(own, folder, quarantine, self.queue, self.inbox, threading.Event())

    def results(self) -> dict[str, str]:
        """Return the first reason of each result that was written, by request."""
        decode = records.decoder_of(records.RetrainingFinished).decode
        found = [
            decode(value) for topic, _, value, _ in self.producer.sent if topic == topics.RETRAINING.name
        ]
        return {each.request_id: each.reasons[0] for each in found}


def steps(running: Any, world: World, count: int) -> None:
    for _ in range(count):
        world.time += 1000
        running.step()
