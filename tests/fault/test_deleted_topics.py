"""Topics of every kind are deleted and recreated under running processes: later records are handled."""

import collections
import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from services.feature_store import repository
from services.operations import setup
from services.operations.local_servers.supervisor import Supervisor
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.times import now_ms
from services.runtime.topic_creation import RequiredTopic, create_missing, ensure_topics, partition_counts
from streams import codec, records, topics
from tests import hostile_records, hostile_world, recreation
from tests.hostile_records import Fate
from tests.hostile_world import MODELS, Planned, Target
from tests.processes import Process
from tests.schema_registry import SchemaRegistry
from tests.shop import read_topic
from tests.waiting import until

PROCESSES = ("features", "scoring", "drift", "learning", "archive", "retraining", "dashboard", "alerting")
COUNT = 10
"""Records of each partition of an application's topics in a round."""
ROUND_MS = 600_000
SEED = 20_260_717


@pytest.fixture
def kafka(servers: Supervisor, tmp_path: Path) -> Iterator[str]:
    with hostile_world.own_kafka(servers, tmp_path / "kafka") as broker:
        yield broker


@pytest.fixture
def installed(
    settings: Settings,
    schema_registry: SchemaRegistry,
    unique_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    installed = hostile_world.install(settings, schema_registry.url, unique_name, tmp_path)
    for name, value in installed.environment().items():
        monkeypatch.setenv(name, value)
    setup.setup()
    return installed


class World:
    """The applications: what they write in each round, and whether it is handled."""

    def __init__(self, settings: Settings, prefix: str, avro: hostile_world.Avro) -> None:
        self.settings = settings
        self.names = [f"{prefix}{letter}" for letter in MODELS]
        self._avro = avro
        self._rng = random.Random(SEED)
        self._start_ms = now_ms() - 12 * 3_600_000
        found = hostile_world.targets(prefix, avro, self._start_ms)
        self.targets = [target for target in found if target.family in ("event", "request", "label")]
        self._round = 0
        self._asked: dict[str, set[str]] = {}

    def write(self) -> None:
        """Write a round: events, requests and their labels, and heartbeats that end it."""
        start_ms = self._start_ms + self._round * ROUND_MS
        self._asked = collections.defaultdict(set)
        planned: list[Planned] = []
        for target in self.targets:
            for number in range(COUNT * target.partitions):
                time_ms = start_ms + number * 1000 + (30_000 if target.family == "label" else 0)
                name, _, kind = target.topic.rpartition(".")
                identity = f"{self._round}-{number}"
                fields = target.fields(self._rng, identity, time_ms)
                partition, key = target.place(self._rng, fields)
                planned.append((target, partition, time_ms, hostile_records.valid(target.shape, fields, key)))
                if kind == "requests":
                    self._asked[name].add(identity)
        self._round += 1
        end_ms = start_ms + ROUND_MS - 1
        beat = hostile_records.Record("", Fate.IGNORED, b"-", None, codec.heartbeat(end_ms), None, {})
        beats = [
            (target, partition, end_ms, beat)
            for target in self.targets
            for partition in range(target.partitions)
        ]
        hostile_world.write(self.settings.broker, self._avro, [*planned, *beats])

    def open(self) -> dict[str, int]:
        """Return how many requests of the round have no prediction yet, and labels no outcome, by model."""
        found: dict[str, int] = {}
        for name, asked in self._asked.items():
            decode = records.decoder_of(records.Prediction).decode
            answered = {
                decode(each.value).prediction_id
                for each in read_topic(self.settings.broker, topics.predictions(name))
                if each.value is not None
            }
            decode_outcome = records.decoder_of(records.Outcome).decode
            told = {
                decode_outcome(each.value).prediction_id
                for each in read_topic(self.settings.broker, topics.outcomes(name))
                if each.value is not None
            }
            found |= {f"{name} predictions": len(asked - answered), f"{name} outcomes": len(asked - told)}
        return {what: count for what, count in found.items() if count}


def kinds_of_topics(
    settings: Settings, names: Sequence[str], targets: Sequence[Target]
) -> Mapping[str, list[str]]:
    """Return all topics by what they hold."""
    views = [view for view in repository.load(settings).views if view.is_stream]
    return {
        "models": [topics.MODELS.name, topics.REFERENCES.name],
        "state": [topics.DRIFT_STATE.name, topics.LEARNING_STATE.name, topics.LEARNED.name],
        "reports": [topics.DRIFT.name, topics.RETRAINING.name, topics.ALERTS.name],
        "logs": [
            topics.DEAD_LETTERS.name,
            topics.FEATURE_LOG.name,
            *(topics.late(view.name) for view in views),
        ],
        "forwarded": [topics.repartition(view.name) for view in views if view.is_repartitioned],
        "results": [topic(name) for name in names for topic in (topics.predictions, topics.outcomes)],
        "inputs": [target.topic for target in targets],
    }


def recreate(settings: Settings, names: Sequence[str]) -> None:
    """Delete topics, and create them again as the processes and the applications do."""
    counts = partition_counts(settings)
    existing = [name for name in names if name in counts]
    recreation.delete(settings, existing)
    ensure_topics(settings, load_all(settings.models))
    create_missing(settings, [RequiredTopic(name, counts[name], {}) for name in existing])


def test_what_comes_after_a_topic_was_recreated_is_handled(
    installed: Settings, unique_name: str, schema_registry: SchemaRegistry, tmp_path: Path
) -> None:
    hostile_world.register_version(installed, f"{unique_name}a", tmp_path / "version")
    world = World(installed, unique_name, hostile_world.Avro(schema_registry.url, unique_name))
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(Process(name, installed, log=tmp_path / f"{name}.log"))
            for name in PROCESSES
        }
        for process in processes.values():
            process.wait_ready()

        def check() -> None:
            for process in processes.values():
                process.check()

        def write(what: str) -> None:
            world.write()
            until(lambda: not world.open(), f"all is handled after {what}", check=check)
            until(
                lambda: all(each.is_ready() for each in processes.values()),
                f"all are ready after {what}",
                check=check,
            )

        write("the start")
        for what, names in kinds_of_topics(installed, world.names, world.targets).items():
            recreate(installed, names)
            write(what)
        write("all of that")
