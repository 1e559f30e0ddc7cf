"""Drift with predictions on disk writes what drift with all of them in memory writes, whatever happens."""

import contextlib
import itertools
import shutil
from pathlib import Path

import pytest

from services.monitoring import pending_predictions
from services.runtime import kafka_consumers
from streams import records, topics
from tests.unit.drift import scenario
from tests.unit.drift.memory_kafka import MemoryConsumer
from tests.unit.drift.memory_session import MemoryDrift

HOURS = 8
OUTCOMES = topics.outcomes("m")


@pytest.fixture
def traffic():
    return scenario.traffic(HOURS, seed=4, partitions=1, a_hour=100, shift_at=4)


def written(drift):
    """Return what was written, each record once: a restart repeats the records since the last snapshot."""
    reports = dict.fromkeys(
        records.encode(each) for each in drift.read(topics.DRIFT.name, records.DriftRecord)
    )
    outcomes = dict.fromkeys(records.encode(each) for each in drift.read(OUTCOMES, records.Outcome))
    return list(reports), list(outcomes)


def run(traffic, home: Path, after_step) -> MemoryDrift:
    """Read in slices; ``after_step`` may crash the session."""
    drift = MemoryDrift(home=home, slice_size=lambda: 70)
    drift.control.write(topics.MODELS.name, records.encode(scenario.model_changed()))
    drift.send(traffic)
    for number in itertools.count():
        drift.session.step()
        after_step(number, drift)
        if drift.is_at_end():
            break
    drift.models.close()
    return drift


def expected(traffic, tmp_path: Path):
    return written(run(traffic, tmp_path / "memory", lambda *_: None))


def on_disk(drift: MemoryDrift) -> int:
    return drift.state().on_disk.generation


@pytest.mark.parametrize("keeps_last", [True, False], ids=["stopped", "killed"])
def test_a_restart_goes_on_with_the_disk(traffic, tmp_path, monkeypatch, keeps_last):
    before = expected(traffic, tmp_path)
    monkeypatch.setattr(pending_predictions, "IN_MEMORY_MAX", 20)

    def restart(number, drift):
        if number % 2 == 0:
            drift.session.keep_all()
        if number % 3 == 2:
            if keeps_last:
                drift.session.keep_all()
            drift.models.close()
            drift.open_session()

    drift = run(traffic, tmp_path / "disk", restart)
    assert on_disk(drift) > 3
    assert written(drift) == before


def test_a_commit_without_its_snapshot_is_undone(traffic, tmp_path, monkeypatch):
    """The process dies between the two."""
    before = expected(traffic, tmp_path)
    monkeypatch.setattr(pending_predictions, "IN_MEMORY_MAX", 20)

    def die(number, drift):
        drift.session.keep_all()
        if number % 2:
            drift.session.step()
            drift.opened[0].snapshot()
            drift.models.close()
            drift.open_session()

    drift = run(traffic, tmp_path / "disk", die)
    assert on_disk(drift) > 3
    assert written(drift) == before


def test_a_lost_disk_is_read_again_from_the_topics(traffic, tmp_path, monkeypatch):
    before = expected(traffic, tmp_path)
    monkeypatch.setattr(pending_predictions, "IN_MEMORY_MAX", 20)
    home = tmp_path / "disk"
    rebuilt = []

    def lose(number, drift):
        drift.session.keep_all()
        if number not in (3, 7):
            return
        drift.models.close()
        waiting = len(drift.opened[0].engine.pending_predictions)
        shutil.rmtree(home)
        again = MemoryConsumer(drift.consumer.slice_size)
        again.logs = drift.consumer.logs
        monkeypatch.setattr(kafka_consumers, "connect", lambda *_: again)
        monkeypatch.setattr(contextlib, "closing", contextlib.nullcontext)
        drift.open_session()
        rebuilt.append((waiting, len(drift.opened[0].engine.pending_predictions)))

    drift = run(traffic, home, lose)
    assert len(rebuilt) == 2
    assert [waiting for waiting, _ in rebuilt] == [found for _, found in rebuilt]
    assert min(rebuilt)[0] > 20
    assert written(drift) == before
