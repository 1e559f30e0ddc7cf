"""A drift session on a broker in memory, with one partition of each topic, and snapshots that it restores."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from kafka import TopicPartition

from services.drift.control_topics import ControlTopics
from services.drift.drift_state import DriftState, starting_state
from services.drift.monitored_model import SNAPSHOTS, MonitoredModel
from services.drift.session import DriftModelOpener, DriftSession
from services.monitoring.guarded_models import GuardedModels
from services.monitoring.prediction_source import PredictionSourceReader
from services.runtime.declaration import ModelDeclaration
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from streams import records, topics
from tests.unit.drift import scenario
from tests.unit.drift.memory_kafka import MemoryConsumer, MemoryOutbox
from tests.unit.monitoring.memory_ownership import MemoryOwnership


def read_no_reference(model: str, name: records.ReferenceName) -> records.Reference:
    """Take the place of the topic of large references."""
    raise AssertionError(f"{model} has no large reference: {name}")


class MemoryRedis:
    """Keeps the hashes that are written."""

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, int]] = {}

    def hset(self, name: str, field: str, value: int) -> None:
        self.hashes.setdefault(name, {})[field] = value


class MemoryFolder:
    """Declarations that a test changes."""

    def __init__(self, names: Sequence[str]) -> None:
        self.valid = {name: scenario.declaration(name) for name in names}
        self.faults: dict[str, str] = {}
        self.changed: set[str] = set()

    def refresh(self) -> frozenset[str]:
        changed, self.changed = frozenset(self.changed), set()
        return changed


class MemoryOpener(DriftModelOpener):
    """Restores models from the snapshots that were written to the consumer's log."""

    consumer: MemoryConsumer
    opened: list[MonitoredModel]

    def prepare(self, declarations: Mapping[str, ModelDeclaration]) -> Mapping[str, DriftState]:
        log = self.consumer.logs.get(_STATES, [])
        values = {(message.key or b"").decode(): message.value or b"" for message in log}
        return {
            name: starting_state(
                declaration,
                *self.partitions(declaration),
                SNAPSHOTS.decode(values[name], name, declaration.label.topic) if name in values else None,
            )
            for name, declaration in declarations.items()
        }

    def partitions(self, declaration: ModelDeclaration) -> tuple[int, int]:
        names = topics.predictions(declaration.name), declaration.label.topic
        predictions, labels = (len(self.consumer.partitions_for_topic(name)) for name in names)
        return predictions, labels

    def open(self, declaration: ModelDeclaration, found: DriftState) -> MonitoredModel:
        self.opened.append(super().open(declaration, found))
        return self.opened[-1]


_STATES = TopicPartition(topics.DRIFT_STATE.name, 0)


class MemoryDrift:
    """The session, its broker, and what survives the session."""

    def __init__(
        self,
        *names: str,
        outbox: type[MemoryOutbox] = MemoryOutbox,
        slice_size: Callable[[], int] | None = None,
        home: Path = Path(".driftline"),
    ) -> None:
        self.names = names or ("m",)
        self.consumer, self.control, self.redis = MemoryConsumer(slice_size), MemoryConsumer(), MemoryRedis()
        for name in self.names:
            for topic in (topics.predictions(name), f"{name}.labels", topics.outcomes(name)):
                self.consumer.write(topic)
        self.outbox = outbox(self.consumer)
        self.folder = MemoryFolder(self.names)
        self.quarantine = Quarantine("drift")
        self.settings = Settings(_env_file=None, home=home)
        self.session = self.open_session()

    def open_session(self) -> DriftSession:
        self.ownership = MemoryOwnership()
        clients = cast("Any", self.outbox), cast("Any", self.ownership), cast("Any", self.consumer)
        opener = MemoryOpener(self.settings, self.quarantine, *clients)
        opener.consumer, opener.opened = self.consumer, []
        self.opened = opener.opened
        self.consumer.assign([])
        reader = PredictionSourceReader(cast("Any", self.consumer))
        models = GuardedModels(cast("Any", self.folder), self.quarantine, opener, reader, self.ownership)
        models.refresh()
        self.models = models
        control = ControlTopics(cast("Any", self.control), read_no_reference)
        given = cast("Any", self.consumer), control, cast("Any", self.outbox), self.redis
        self.session = DriftSession(*given, models, reader)
        return self.session

    def send(self, logs: scenario.Traffic, name: str = "m") -> None:
        """Write predictions and labels of one partition each."""
        for topic, (log,) in (
            (topics.predictions(name), logs.predictions),
            (f"{name}.labels", logs.labels),
        ):
            self.consumer.write_records(topic, [scenario.kafka_record(entry.record) for entry in log])

    def step_to_end(self, steps_max: int = 1000) -> None:
        """Step until everything is read."""
        for _ in range(steps_max):
            self.session.step()
            if self.is_at_end():
                return
        raise AssertionError(f"not everything is read: {self.consumer.positions}")

    def is_at_end(self) -> bool:
        """Return whether all models are open and have read everything."""
        positions, logs = self.consumer.positions, self.consumer.logs
        return {model.name for model in self.models} == set(self.names) and all(
            positions.get(partition) == len(log)
            for partition, log in logs.items()
            if partition.topic.endswith(".labels") or partition.topic.startswith("driftline.predictions")
        )

    def read(self, topic: str, kind: Any) -> list[Any]:
        return [records.decoder_of(kind).decode(value) for value in self.consumer.values(topic)]

    def state(self, name: str = "m") -> DriftState:
        """Return the last snapshot."""
        with contextlib.suppress(StopIteration):
            log = self.consumer.logs.get(_STATES, [])
            value = next(each.value for each in reversed(log) if each.key == name.encode())
            return SNAPSHOTS.decode(value or b"", name, f"{name}.labels")
        raise AssertionError(f"there is no snapshot of {name}")
