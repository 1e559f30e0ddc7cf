"""kill -9 and rebalances of drift: reports, outcomes and requests are those of an undisturbed run."""

import contextlib

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


def test_workers_that_crash_or_hang_change_no_record(local, unique_name, tmp_path, http_ports):
    """Three processes gather and one evaluates: one of each is killed, one hangs past its session timeout."""
    kafka_topics = DriftTopics(local, unique_name, tmp_path, segments=["colour"])
    traffic = scenario.traffic(HOURS, seed=10, shift_at=12, a_hour=300, name=unique_name)
    declared = scenario.declaration(unique_name, segments=["colour"])
    expected = scenario.play(scenario.new_engine(declared, PARTITIONS), traffic)
    assert expected.requests
    kafka_topics.send_model()
    pieces = [_piece(traffic, number) for number in range(PIECES)]

    with contextlib.ExitStack() as stack:
        judge = stack.enter_context(_drift(kafka_topics, tmp_path, "judge", local.drift_port))
        ports = [http_ports[name] for name in ("features_port", "archive_port", "retraining_port")]
        hangs, dies, stays = (
            stack.enter_context(_drift(kafka_topics, tmp_path, "gather", port)) for port in ports
        )

        def check() -> None:
            for process in (judge, hangs, dies, stays):
                process.check()

        for process in (hangs, dies, stays):
            process.wait_ready()
        _send(kafka_topics, pieces[0])
        until(lambda: kafka_topics.snapshots() > 0, "a snapshot is written", check=check)
        written = kafka_topics.outcomes_written()
        _send(kafka_topics, pieces[1])
        until(lambda: kafka_topics.outcomes_written() > written, "outcomes are written", check=check)
        judge.kill()
        dies.kill()
        _send(kafka_topics, pieces[2])
        hangs.suspend()
        judge.start()
        written = kafka_topics.outcomes_written()
        _send(kafka_topics, pieces[3])
        until(
            lambda: kafka_topics.outcomes_written() > written + HOURS,
            "outcomes are written",
            check=stays.check,
        )
        dies.start()
        hangs.resume()
        dies.wait_ready()
        _send(kafka_topics, pieces[4])
        kafka_topics.wait_for_watermark(START_MS + (HOURS + 6) * HOUR_MS, check)
        assert "drift.restored" in judge.output()
        assert [process.stop() for process in (hangs, dies, stays, judge)] == [0] * 4

    assert kafka_topics.drift() == expected.drift
    assert kafka_topics.outcomes() == expected.outcomes
    assert {request.request_id for request in kafka_topics.requests()} == {
        request.request_id for request in expected.requests
    }


def _drift(kafka_topics: DriftTopics, folder, role: str, port: int) -> Process:
    settings = kafka_topics.settings.model_copy(update={"drift_port": port, "session_timeout_seconds": 6.0})
    log = folder / f"{role}-{port}.log"
    return Process("drift", settings, log=log, arguments=(role,))


def _piece(traffic: scenario.Traffic, number: int):
    """Yield one of `PIECES` equal parts of every log."""
    for kind, logs in ((PREDICTION, traffic.predictions), (LABEL, traffic.labels)):
        for partition, log in enumerate(logs):
            yield kind, partition, log[len(log) * number // PIECES : len(log) * (number + 1) // PIECES]


def _send(kafka_topics: DriftTopics, piece) -> None:
    for kind, partition, entries in piece:
        kafka_topics.send(kind, partition, entries)
