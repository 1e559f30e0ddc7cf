"""References and retraining requests reach the engines of their models."""

from typing import Any, cast

import msgspec
import pytest

from services.drift.control_topics import ControlTopics
from services.model_registry.large_references import ReferenceLostError
from services.runtime import metrics
from streams import records, topics
from tests.unit.drift import scenario
from tests.unit.drift.memory_kafka import MemoryConsumer
from tests.unit.drift.scenario import START_MS


class RecordingEngine:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.changes: list[records.ModelChanged] = []
        self.requests: list[records.RetrainingRecord | records.RolloutRecord] = []

    def add_model(self, change: records.ModelChanged) -> None:
        self.changes.append(change)

    def add_retraining(self, record: records.RetrainingRecord | records.RolloutRecord) -> None:
        self.requests.append(record)


class Control:
    """The control topics of engines that are open from the beginning."""

    def __init__(self, consumer: MemoryConsumer, engines: dict[str, Any]) -> None:
        self.topics, self.engines = ControlTopics(cast("Any", consumer), self.read_reference), engines
        self.references: dict[tuple[str, int], records.Reference] = {}

    def read_reference(self, model: str, name: records.ReferenceName) -> records.Reference:
        if (model, name.version) not in self.references:
            raise ReferenceLostError(f"version {name.version} of {model}")
        return self.references[model, name.version]

    def catch_up(self) -> None:
        self.topics.catch_up(self.engines)


REQUEST = records.RetrainingRequested(
    request_id="r", model="m", trigger="manual", requested_at_ms=START_MS, reason="r"
)


@pytest.fixture
def consumer():
    return MemoryConsumer()


@pytest.fixture
def engine():
    return RecordingEngine()


@pytest.fixture
def control(consumer, engine):
    return Control(consumer, {"m": cast("Any", engine)})


def test_nothing_is_read_before_it_catches_up(consumer, engine, control):
    consumer.write(topics.MODELS.name, records.encode(scenario.model_changed()))
    assert engine.changes == []
    control.catch_up()
    assert [change.reference.version for change in engine.changes] == [1]


def test_each_catch_up_reads_what_is_new(consumer, engine, control):
    consumer.write(topics.RETRAINING.name, records.encode(REQUEST))
    control.catch_up()
    control.catch_up()
    assert engine.requests == [REQUEST]


def test_records_of_other_models_and_other_kinds_change_nothing(consumer, engine, control):
    consumer.write(topics.MODELS.name, None, records.encode(scenario.model_changed(name="other")))
    other = records.RetrainingRequested(
        request_id="r", model="other", trigger="manual", requested_at_ms=START_MS, reason="r"
    )
    consumer.write(topics.RETRAINING.name, records.encode(other))
    control.catch_up()
    assert (engine.changes, engine.requests) == ([], [])


@pytest.mark.parametrize("broken", [b"no JSON", b"\xff", b"{}", b"[" * 100_000])
def test_an_unreadable_record_is_passed_over(consumer, engine, control, broken):
    consumer.write(topics.MODELS.name, broken, records.encode(scenario.model_changed()))
    consumer.write(topics.RETRAINING.name, broken, records.encode(REQUEST))
    control.catch_up()
    assert (len(engine.changes), len(engine.requests)) == (1, 1)


def test_an_engine_that_opens_later_gets_all_records_and_the_others_no_repeat(consumer, engine, control):
    consumer.write(topics.RETRAINING.name, records.encode(REQUEST))
    control.catch_up()
    late = RecordingEngine()
    late_request = msgspec.structs.replace(REQUEST, model="late")
    consumer.write(topics.RETRAINING.name, records.encode(late_request), records.encode(REQUEST))
    control.engines = control.engines | {"late": cast("Any", late)}
    control.catch_up()
    assert engine.requests == [REQUEST, REQUEST]
    assert late.requests == [late_request]


def test_a_record_that_an_engine_cannot_take_stops_no_other(consumer, engine, control, monkeypatch):
    monkeypatch.setattr(engine, "add_model", lambda _: 1 / 0)
    skipped = metrics.RECORDS_SKIPPED.labels("drift", topics.MODELS.name)
    before = skipped._value.get()
    consumer.write(topics.MODELS.name, records.encode(scenario.model_changed()))
    consumer.write(topics.RETRAINING.name, records.encode(REQUEST))
    control.catch_up()
    assert engine.requests == [REQUEST]
    assert skipped._value.get() == before + 1


def test_a_change_that_names_its_reference_is_completed(consumer, engine, control):
    change = scenario.model_changed()
    control.references["m", 1] = change.reference
    for version in (2, 1):
        name = records.ReferenceName(version=version, sha256="d")
        named = msgspec.structs.replace(change, reference=None, reference_name=name)
        consumer.write(topics.MODELS.name, records.encode(named))
    control.catch_up()
    assert [each.reference for each in engine.changes] == [change.reference], "that of version 2 is lost"


def test_a_topic_that_is_recreated_is_read_from_its_start(consumer, engine, control):
    for versions in ((1, 2), (3, 4, 5)):
        consumer.recreate(topics.MODELS.name)
        for version in versions:
            consumer.write(topics.MODELS.name, records.encode(scenario.model_changed(version)))
        control.catch_up()
    assert [change.arms[0].version for change in engine.changes] == [1, 2, 3, 4, 5]


def test_rollouts_of_a_model_reach_its_engine(consumer, engine, control):
    started = records.RolloutStarted(
        rollout_id="r", model="m", version=2, champion=1, at_ms=START_MS, reason="", actor="ada"
    )
    other = msgspec.structs.replace(started, model="other")
    consumer.write(topics.ROLLOUTS.name, b"no JSON", records.encode(other), records.encode(started))
    control.catch_up()
    assert engine.requests == [started]
