"""Predictions in memory and on disk behave as one ordered collection, whatever crashes."""

from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from services.monitoring.pending_disk import PendingDisk
from services.monitoring.pending_predictions import JoinedLabel, PendingPrediction, PendingPredictions

IDS = st.integers(0, 30).map("p{}".format)


def prediction(identity: str, time_ms: int) -> PendingPrediction:
    return PendingPrediction(
        identity, time_ms - 3, time_ms, 1, "champion", 0.25, None, {"next": 0.5}, features=["a", 1, 2.5, None]
    )


class SameAsMemory(RuleBasedStateMachine):
    """The same calls go to one that may use the disk and to one that may not; the first one crashes."""

    tmp_path_factory: pytest.TempPathFactory

    @initialize()
    def begin(self) -> None:
        self.folder = Path(self.tmp_path_factory.mktemp("pending")) / "model"
        self.time_ms = 0
        self.disk = PendingDisk(self.folder, "a", 0)
        self.tried = PendingPredictions(disk=self.disk, in_memory_max=3)
        self.expected = PendingPredictions()
        self.snapshot = self.settle()

    def settle(self) -> tuple[bytes, int, bytes]:
        """Return a snapshot: of the one tried, and for comparison of the other."""
        entries, generation = self.tried.settle()
        assert len(entries) <= 3
        return encoded(entries), generation, encoded(self.expected.settle()[0])

    @rule(identity=IDS, later_ms=st.integers(0, 3))
    def add(self, identity: str, later_ms: int) -> None:
        self.time_ms += later_ms
        for each in (self.tried, self.expected):
            each.pop(identity)
            each.append(prediction(identity, self.time_ms))

    @rule(start_ms=st.integers(-3, 40), length_ms=st.integers(0, 40))
    def look_between(self, start_ms: int, length_ms: int) -> None:
        stop_ms = start_ms + length_ms
        found = list(self.tried.between(start_ms, stop_ms))
        assert found == list(self.expected.between(start_ms, stop_ms))
        assert all(start_ms <= each.counts_at_ms < stop_ms for each in found)

    @rule(identity=IDS, label=st.floats(0, 1))
    def label(self, identity: str, label: float) -> None:
        for each in (self.tried, self.expected):
            if (entry := each.get(identity)) is not None:
                each.note_label(entry, label, JoinedLabel(1))

    @rule(identity=IDS)
    def look(self, identity: str) -> None:
        assert self.tried.get(identity) == self.expected.get(identity)

    @rule(age_ms=st.integers(0, 30))
    def expire(self, age_ms: int) -> None:
        before_ms = self.time_ms - age_ms
        assert list(self.tried.take_before(before_ms)) == list(self.expected.take_before(before_ms))

    @rule()
    def write_snapshot(self) -> None:
        self.snapshot = self.settle()

    @rule(between=st.booleans())
    def crash(self, *, between: bool) -> None:
        """Start again from the last snapshot; ``between``: the disk was committed, Kafka was not written."""
        if between:
            self.tried.settle()
        self.disk.close()
        entries, generation, expected = self.snapshot
        self.disk = PendingDisk(self.folder, "a", generation)
        self.tried = PendingPredictions(decoded(entries), self.disk, in_memory_max=3)
        self.expected = PendingPredictions(decoded(expected))

    @invariant()
    def same_length(self) -> None:
        assert len(self.tried) == len(self.expected)

    def teardown(self) -> None:
        assert list(self.tried.take_before(2**60)) == list(self.expected.take_before(2**60))
        self.disk.close()


def encoded(entries: list[PendingPrediction]) -> bytes:
    return msgspec.msgpack.encode(entries)


def decoded(raw: bytes) -> list[PendingPrediction]:
    return msgspec.msgpack.decode(raw, type=list[PendingPrediction])


def test_disk_and_crashes_change_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    SameAsMemory.tmp_path_factory = tmp_path_factory
    run_state_machine_as_test(SameAsMemory, settings=settings(max_examples=40, stateful_step_count=40))


def test_memory_needs_settling_at_twice_its_bound(tmp_path: Path) -> None:
    disk = PendingDisk(tmp_path / "model", "a", 0)
    pending = PendingPredictions(disk=disk, in_memory_max=2)
    for number in range(4):
        pending.append(prediction(f"p{number}", number))
    found = [pending.needs_settling]
    pending.append(prediction("p4", 4))
    found.append(pending.needs_settling)
    kept, generation = pending.settle()
    assert ([entry.prediction_id for entry in kept], generation) == (["p3", "p4"], 1)
    assert [*found, pending.needs_settling] == [False, True, False]
    disk.close()


def test_many_labels_of_predictions_on_disk_need_settling(tmp_path: Path) -> None:
    disk = PendingDisk(tmp_path / "model", "a", 0)
    pending = PendingPredictions(disk=disk, in_memory_max=2)
    for number in range(8):
        pending.append(prediction(f"p{number}", number))
    pending.settle()
    for number in range(3):
        entry = pending.get(f"p{number}")
        assert entry is not None
        pending.note_label(entry, 1.0, JoinedLabel(1))
    assert pending.needs_settling
    disk.close()


def test_without_a_disk_everything_stays_in_memory() -> None:
    pending = PendingPredictions(in_memory_max=1)
    for number in range(5):
        pending.append(prediction(f"p{number}", number))
    assert not pending.needs_settling
    assert len(pending.settle()[0]) == 5
