"""Whatever records or models fail, exactly those are kept apart: the drift process on a broker in memory."""

import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import msgspec
import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from services.drift.drift_state import DriftState
from services.drift.engine import Engine
from services.drift.evaluator import Evaluator
from services.drift.monitored_model import SNAPSHOTS
from services.monitoring import guarded_models
from services.monitoring.label_join import Joined
from services.runtime import metrics
from services.runtime.snapshots import SnapshotPace
from streams import records, topics
from streams.repeats import RepeatFilter
from tests.unit.drift import scenario
from tests.unit.drift.memory_kafka import MemoryOutbox
from tests.unit.drift.memory_session import MemoryDrift
from tests.unit.drift.scenario import Entry, Traffic

PREDICTIONS, LABELS = topics.predictions("m"), "m.labels"
STATES = TopicPartition(topics.DRIFT_STATE.name, 0)
HOURS = 4
TRAFFIC = scenario.traffic(HOURS, seed=4, partitions=1, a_hour=30, shift_at=2)
ROWS, LABELLED = len(TRAFFIC.predictions[0]) - 1, len(TRAFFIC.labels[0]) - 1


@contextmanager
def raising(predictions: Collection[str], labels: Collection[str]) -> Iterator[None]:
    """Make the engine fail in the middle of its work on these ids: rows together, labels one by one."""
    add_rows, process_joined = Evaluator.add_rows, Engine._process_joined

    def bad_rows(self: Any, rows: Any, *args: Any) -> None:
        add_rows(self, rows, *args)
        if any(row.prediction_id in predictions for row in rows.predictions if row.model == "m"):
            raise ZeroDivisionError

    def bad_label(self: Any, index: int, joined: Joined, *args: Any) -> None:
        process_joined(self, index, joined, *args)
        if joined.label.prediction_id in labels and self.model == "m":
            raise ZeroDivisionError

    with (
        mock.patch.object(Evaluator, "add_rows", bad_rows),
        mock.patch.object(Engine, "_process_joined", bad_label),
    ):
        yield


def without(traffic: Traffic, predictions: Collection[int], labels: Collection[int]) -> Traffic:
    """Return the traffic with bytes that cannot be decoded at these offsets."""

    def broken(log: list[Entry], offsets: Collection[int]) -> list[Entry]:
        return [Entry(each.offset, b"x") if each.offset in offsets else each for each in log]

    return Traffic([broken(traffic.predictions[0], predictions)], [broken(traffic.labels[0], labels)])


def outcomes_of(drift: MemoryDrift, name: str = "m") -> list[records.Outcome]:
    repeats = RepeatFilter()
    return [
        each
        for each in drift.read(topics.outcomes(name), records.Outcome)
        if not repeats.is_repeat(each.source_partition, each.source_offset)
    ]


def reports_of(drift: MemoryDrift, name: str = "m") -> dict[Any, records.DriftRecord]:
    found = drift.read(topics.DRIFT.name, records.DriftRecord)
    return {scenario.identity(each): each for each in found if each.model == name}


def letters_of(drift: MemoryDrift) -> set[tuple[str, int]]:
    found = drift.read(topics.DEAD_LETTERS.name, records.DeadLetter)
    return {(letter.topic, letter.offset) for letter in found}


def played(traffic: Traffic, slice_size: Any = None) -> MemoryDrift:
    drift = MemoryDrift("m", "n", slice_size=slice_size)
    for name in drift.names:
        drift.control.write(topics.MODELS.name, records.encode(scenario.model_changed(name=name)))
    drift.send(traffic)
    drift.send(scenario.traffic(HOURS, seed=5, partitions=1, a_hour=30, name="n"), "n")
    drift.step_to_end()
    drift.session.keep_all()
    return drift


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    """Write snapshots whenever something was processed, as time passes in a test only slowly."""
    with (
        structlog.testing.capture_logs(),  # tracebacks in colour cost seconds
        mock.patch.object(SnapshotPace, "due", lambda self, _: self.progressed),
        mock.patch.object(guarded_models, "CAREFUL_SNAPSHOT_SECONDS", 0.0),
    ):
        yield


def encoded(state: DriftState, like: MemoryDrift) -> bytes:
    """Encode a state without where its disk would be read again from, which depends on the snapshots."""
    return SNAPSHOTS.encode("m", LABELS, msgspec.structs.replace(state, on_disk=like.state().on_disk))


@given(
    predictions=st.sets(st.integers(0, ROWS - 1), max_size=4),
    labels=st.sets(st.integers(0, LABELLED - 1), max_size=4),
    seed=st.integers(0, 2**32),
)
@example(predictions={33}, labels={37, 40}, seed=0)
@settings(max_examples=8)
def test_exactly_the_defects_are_rejected_and_everything_else_is_as_without_them(predictions, labels, seed):
    chance = random.Random(seed)
    bad_rows = {TRAFFIC.predictions[0][offset].record.prediction_id for offset in predictions}
    # The label of a rejected prediction is joined with nothing, so no code fails on it.
    labels = {each for each in labels if TRAFFIC.labels[0][each].record.prediction_id not in bad_rows}
    bad_labels = {TRAFFIC.labels[0][offset].record.prediction_id for offset in labels}
    with raising(bad_rows, bad_labels):
        found = played(TRAFFIC, lambda: chance.choice((1, 7, 50, 1000)))
    expected = played(without(TRAFFIC, predictions, labels))
    defects = {(PREDICTIONS, offset) for offset in predictions} | {(LABELS, offset) for offset in labels}
    assert letters_of(found) == defects == letters_of(expected)
    assert set(found.quarantine.rejected("m")) == {(topic, 0, offset) for topic, offset in defects}
    assert encoded(found.state(), expected) == encoded(expected.state(), expected)
    assert outcomes_of(found) == outcomes_of(expected)
    assert reports_of(found) == reports_of(expected)
    assert outcomes_of(found, "n") == outcomes_of(expected, "n")
    assert reports_of(found, "n") == reports_of(expected, "n")
    assert set_aside(found) == {}


def new_drift(**options: Any) -> MemoryDrift:
    drift = MemoryDrift("m", "n", **options)
    for name in drift.names:
        drift.control.write(topics.MODELS.name, records.encode(scenario.model_changed(name=name)))
    return drift


def send_both(drift: MemoryDrift) -> None:
    drift.send(TRAFFIC)
    drift.send(scenario.traffic(HOURS, seed=5, partitions=1, a_hour=30, name="n"), "n")


def set_aside(drift: MemoryDrift) -> Any:
    return drift.quarantine.detail().get("models_set_aside", {})


def is_open(drift: MemoryDrift) -> set[str]:
    return {model.name for model in drift.models}


def test_a_model_whose_window_cannot_be_closed_is_set_aside_and_comes_back() -> None:
    drift, close_window = new_drift(), Evaluator.close_window

    def failing(self: Any, *args: Any) -> Any:
        if self._model == "m":
            raise ZeroDivisionError("no rows")
        return close_window(self, *args)

    send_both(drift)
    with mock.patch.object(Evaluator, "close_window", failing):
        for _ in range(5):
            drift.session.step()
        assert is_open(drift) == {"n"}
        assert "ZeroDivisionError: no rows" in set_aside(drift)["m"]
        assert len(reports_of(drift, "n")) >= HOURS
        assert not reports_of(drift, "m")
    drift.quarantine.changed("m")
    drift.models._refreshed_seconds = 0.0
    drift.step_to_end()
    drift.session.keep_all()
    drift.session.step()
    assert len(reports_of(drift, "m")) >= HOURS
    assert set_aside(drift) == {}


def test_a_snapshot_that_cannot_be_read_stops_its_own_model_alone() -> None:
    drift = new_drift()
    drift.consumer.write_records(topics.DRIFT_STATE.name, [(b"m", b"no snapshot", [])])
    drift.open_session()
    send_both(drift)
    drift.session.step()
    assert is_open(drift) == {"n"}
    assert "the snapshot of 'm' cannot be read" in set_aside(drift)["m"]
    assert len(reports_of(drift, "n")) >= HOURS
    drift.consumer.logs[STATES] = []  # somebody deletes the record
    drift.quarantine.changed("m")
    drift.models._refreshed_seconds = 0.0
    drift.step_to_end()
    assert set_aside(drift) == {}


def test_an_outage_ends_the_session_and_keeps_nothing_apart() -> None:
    class AwayOutbox(MemoryOutbox):
        def write(self, stage: Any) -> None:
            raise KafkaConnectionError

    drift = new_drift(outbox=AwayOutbox)
    send_both(drift)
    with pytest.raises(KafkaConnectionError):
        drift.session.step()
    assert is_open(drift) == {"m", "n"}
    assert set_aside(drift) == {}


def test_results_that_cannot_be_written_set_their_own_model_aside() -> None:
    class RefusingOutbox(MemoryOutbox):
        def write(self, stage: Any) -> None:
            if any(topic == topics.outcomes("m") for topic, _ in stage):
                raise MessageSizeTooLargeError
            super().write(stage)

    drift = new_drift(outbox=RefusingOutbox)
    send_both(drift)
    for _ in range(5):
        drift.session.step()
    assert is_open(drift) == {"n"}
    assert "MessageSizeTooLargeError" in set_aside(drift)["m"]
    assert len(reports_of(drift, "n")) >= HOURS


def test_a_declaration_that_is_added_changed_or_removed_needs_no_restart() -> None:
    drift = new_drift()
    del drift.folder.valid["n"]
    drift.folder.changed = {"n"}
    refresh(drift)
    assert is_open(drift) == {"m"}
    first = next(iter(drift.models))
    drift.folder.valid["n"] = scenario.declaration("n")
    drift.folder.changed = {"m", "n"}
    refresh(drift)
    assert is_open(drift) == {"m", "n"}
    assert first not in list(drift.models)
    drift.folder.faults["new"] = "new/model.yaml:3:1: unknown setting"
    refresh(drift)
    assert set_aside(drift) == {"new": "new/model.yaml:3:1: unknown setting"}


def test_a_partition_that_is_added_to_a_topic_is_read_without_a_restart() -> None:
    drift = new_drift()
    send_both(drift)
    drift.session.step()
    drift.consumer.write(LABELS, partition=1)
    drift.models._grown_seconds = 0.0
    refresh(drift)
    assert TopicPartition(LABELS, 1) in drift.consumer.positions
    assert drift.consumer.positions[TopicPartition(LABELS, 0)] == LABELLED + 1, "it is not read again"


def refresh(drift: MemoryDrift) -> None:
    drift.models._refreshed_seconds = 0.0
    drift.models.refresh()


@pytest.mark.parametrize("refusing", ["poll", "beginning_offsets"])
def test_a_topic_that_may_not_be_read_sets_its_own_model_aside(refusing: str) -> None:
    drift = new_drift()
    send_both(drift)
    consumer, work = drift.consumer, getattr(drift.consumer, refusing)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if any(partition.topic == LABELS for partition in consumer.positions):
            raise TopicAuthorizationFailedError({LABELS})
        return work(*args, **kwargs)

    with mock.patch.object(consumer, refusing, refuse):
        drift.open_session()
        for _ in range(3):
            drift.session.step()
        assert is_open(drift) == {"n"}
        assert set_aside(drift) == {
            "m": "the broker denies this process reading m.labels: grant the right to read"
        }
        assert len(reports_of(drift, "n")) >= HOURS
    drift.quarantine.changed("m")
    drift.models._refreshed_seconds = 0.0
    drift.step_to_end()
    assert len(reports_of(drift, "m")) >= HOURS


def test_many_defects_are_rejected_in_few_attempts_each() -> None:
    bad = {each.record.prediction_id for each in TRAFFIC.labels[0][:20]}
    drift = new_drift()
    send_both(drift)
    with raising((), bad):
        drift.step_to_end(steps_max=60)
    assert len(letters_of(drift)) == 20


def test_a_model_that_another_worker_takes_over_is_closed_with_a_snapshot_before_it_is_released() -> None:
    drift = new_drift()
    send_both(drift)
    drift.session.step()
    for model in drift.models:
        model.pace.note(windows_closed=0)
    drift.consumer.logs[STATES] = []
    drift.ownership.calls.clear()
    drift.ownership.foreign = {"m"}
    drift.models.refresh()
    assert is_open(drift) == {"n"}
    assert drift.ownership.calls == ["declare", "require", "release"]
    assert [message.key for message in drift.consumer.logs[STATES]] == [b"m"]
    assert drift.quarantine.detail()["models"] == ["n"]
    drift.ownership.foreign = set()
    drift.models.refresh()
    assert is_open(drift) == {"m", "n"}


def test_the_gauges_of_a_model_leave_with_it_and_its_counters_stay() -> None:
    drift = new_drift()
    send_both(drift)
    drift.session.step()
    assert {"m", "n"} <= shown_models(metrics.DRIFT_WATERMARK) & shown_models(metrics.DRIFT_PENDING)
    drift.ownership.foreign = {"m"}
    drift.models.refresh()
    assert "m" not in shown_models(metrics.DRIFT_WATERMARK) | shown_models(metrics.DRIFT_PENDING)
    assert "m" in shown_models(metrics.DRIFT_RECORDS)
    assert "n" in shown_models(metrics.DRIFT_WATERMARK)


def shown_models(metric: Any) -> set[str]:
    return {sample.labels["model"] for family in metric.collect() for sample in family.samples}
