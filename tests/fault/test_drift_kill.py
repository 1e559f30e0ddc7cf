"""kill -9, hangs and rebalances of drift: reports, outcomes and requests are those of an undisturbed run."""

import contextlib
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.runtime.settings import Settings
from streams.inputs import LABEL, PREDICTION
from tests.flow.drift_topics import PARTITIONS, DriftTopics
from tests.processes import Process
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS
from tests.waiting import until

HOURS = 30
PIECES = 5


@pytest.fixture
def local(kafka: str, valkey: str, http_ports: dict[str, int]) -> Settings:
    changes = {"broker": kafka, "redis_url": valkey, **http_ports}
    return Settings().model_copy(update=changes)


def test_a_killed_drift_process_repeats_records_and_changes_none(local, unique_name, tmp_path):
    """Killed twice: with work done since its last snapshot, and directly after new input came."""
    kafka_topics = DriftTopics(local, unique_name, tmp_path)
    traffic = scenario.traffic(HOURS, seed=9, shift_at=12, a_hour=300, name=unique_name)
    expected = scenario.play(scenario.new_engine(scenario.declaration(unique_name), PARTITIONS), traffic)
    assert expected.requests
    kafka_topics.send_model()
    pieces = [_piece(traffic, number) for number in range(PIECES)]

    with Process("drift", kafka_topics.settings, log=tmp_path / "drift.log") as drift:
        _send(kafka_topics, pieces[0])
        until(lambda: kafka_topics.snapshots() > 0, "a snapshot is written", check=drift.check)
        written = kafka_topics.outcomes_written()
        _send(kafka_topics, pieces[1])
        until(lambda: kafka_topics.outcomes_written() > written, "outcomes are written", check=drift.check)
        drift.kill()

        drift.start()
        _send(kafka_topics, pieces[2])
        drift.wait_ready()
        _send(kafka_topics, pieces[3])
        drift.kill()

        _send(kafka_topics, pieces[4])
        drift.start()
        kafka_topics.wait_for_watermark(START_MS + (HOURS + 6) * HOUR_MS, drift.check)
        assert "drift.restored" in drift.output()
        assert drift.stop() == 0

    assert kafka_topics.drift() == expected.drift
    assert kafka_topics.outcomes() == expected.outcomes
    assert {request.request_id for request in kafka_topics.requests()} == {
        request.request_id for request in expected.requests
    }


MODELS = 4


class SharedModels:
    """Models with their topics, traffic and expected records."""

    def __init__(self, local: Settings, name: str, folder: Path) -> None:
        self.names = [f"{name}{number}" for number in range(MODELS)]
        self.topics = {each: DriftTopics(local, each, folder, segments=["colour"]) for each in self.names}
        self.settings = self.topics[self.names[-1]].settings
        self.traffic = {
            each: scenario.traffic(HOURS, seed=10 + number, shift_at=12, a_hour=200, name=each)
            for number, each in enumerate(self.names)
        }

    def send(self, number: int) -> None:
        for name, kafka_topics in self.topics.items():
            _send(kafka_topics, _piece(self.traffic[name], number))

    def have_snapshots(self) -> bool:
        return all(each.snapshots() > 0 for each in self.topics.values())

    def are_owned(self, workers: Sequence[Process], most: int) -> bool:
        """Tell whether each model has one owner, and no worker more than so many."""
        owned = [sorted(each.models() & set(self.names)) for each in workers]
        return sorted(itertools.chain(*owned)) == self.names and max(map(len, owned)) <= most

    def check(self, name: str) -> None:
        declared = scenario.declaration(name, segments=["colour"])
        expected = scenario.play(scenario.new_engine(declared, PARTITIONS), self.traffic[name])
        found = self.topics[name]
        assert found.drift() == expected.drift
        assert found.outcomes() == expected.outcomes
        requests = {request.request_id for request in expected.requests}
        assert requests
        assert {request.request_id for request in found.requests()} == requests


def shows_its_models(worker: Process) -> bool:
    return worker.labelled("driftline_drift_watermark_seconds", "model") == worker.models()


def test_workers_that_die_come_or_hang_change_no_record(local, unique_name, tmp_path, http_ports):
    """Three workers share four models: one is killed, one hangs past its session, both come back."""
    models = SharedModels(local, unique_name, tmp_path)
    for kafka_topics in models.topics.values():
        kafka_topics.send_model()
    with contextlib.ExitStack() as stack:
        ports = [http_ports[name] for name in ("drift_port", "features_port", "archive_port")]
        workers = hangs, dies, stays = [
            stack.enter_context(_worker(models.settings, tmp_path, number, port))
            for number, port in enumerate(ports)
        ]

        def check() -> None:
            for process in workers:
                process.check()

        until(lambda: models.are_owned(workers, 2), "the models are shared", check=check)
        models.send(0)
        until(models.have_snapshots, "snapshots are written", check=check)
        models.send(1)
        dies.kill()
        hangs.suspend()
        models.send(2)
        until(lambda: models.are_owned([stays], MODELS), "one worker owns all", check=stays.check)
        hangs.resume()
        models.send(3)
        dies.start()
        until(lambda: models.are_owned(workers, 2), "the models are shared again", check=check)
        models.send(4)
        for kafka_topics in models.topics.values():
            kafka_topics.wait_for_watermark(START_MS + (HOURS + 6) * HOUR_MS, check)
        assert "models.ownership_lost" in hangs.output()
        for worker in workers:
            until(functools.partial(shows_its_models, worker), "the metrics are those of its models")
        assert [process.stop() for process in workers] == [0] * len(workers)
    for name in models.names:
        models.check(name)


def _worker(settings: Settings, folder, number: int, port: int) -> Process:
    changes = {"drift_port": port, "session_timeout_seconds": 3.0}
    return Process("drift", settings.model_copy(update=changes), log=folder / f"drift-{number}.log")


def _piece(traffic: scenario.Traffic, number: int):
    """Yield one of `PIECES` equal parts of every log."""
    for kind, logs in ((PREDICTION, traffic.predictions), (LABEL, traffic.labels)):
        for partition, log in enumerate(logs):
            yield kind, partition, log[len(log) * number // PIECES : len(log) * (number + 1) // PIECES]


def _send(kafka_topics: DriftTopics, piece) -> None:
    for kind, partition, entries in piece:
        kafka_topics.send(kind, partition, entries)
