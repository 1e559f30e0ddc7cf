"""The drift process on a real Kafka and a real Valkey writes what the engine alone makes."""

from collections.abc import Sequence
from typing import Any

import httpx
import msgspec
import pytest

from services.runtime.settings import Settings
from streams import topics
from streams.inputs import LABEL, PREDICTION
from tests.flow.drift_topics import PARTITIONS, DriftTopics
from tests.processes import Process
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS, Entry
from tests.waiting import LIVENESS_SECONDS

HOURS = 20
END_MS = START_MS + (HOURS + 6) * HOUR_MS
POISON = (
    b"not JSON",
    b'{"id": "p1", "at": "2013-01-01T00:00:00Z"}',
    b'{"id": 1, "at": "2013-01-01T00:00:00Z", "y": 1.0}',
    b'{"id": "p1", "at": "2013-01-01T00:00:00Z", "y": NaN}',
    b'{"id": "p1", "at": "3013-01-01T00:00:00Z", "y": 1.0}',
)


@pytest.fixture
def local(kafka: str, valkey: str, http_ports: dict[str, int]) -> Settings:
    changes = {"broker": kafka, "redis_url": valkey, **http_ports}
    return Settings().model_copy(update=changes)


def test_the_process_writes_the_outputs_of_the_engine_and_stops_on_request(local, unique_name, tmp_path):
    kafka_topics = DriftTopics(local, unique_name, tmp_path)
    traffic = scenario.traffic(HOURS, seed=7, shift_at=10, a_hour=200, name=unique_name)
    labels = [entry.record for entry in traffic.labels[0]]
    labels[50:50] = POISON
    traffic.labels[0][:] = scenario.with_label_offsets(labels)
    engine = scenario.new_engine(scenario.declaration(unique_name), PARTITIONS)
    expected = scenario.play(engine, traffic)
    assert expected.requests
    assert scenario.alarms(expected)

    kafka_topics.send_model()
    with Process("drift", kafka_topics.settings, log=tmp_path / "drift.log") as drift:
        for number in range(PARTITIONS):
            kafka_topics.send(PREDICTION, number, traffic.predictions[number])
            kafka_topics.send(LABEL, number, traffic.labels[number])
        drift.wait_ready()
        kafka_topics.wait_for_watermark(END_MS, drift.check)

        assert kafka_topics.drift() == expected.drift
        assert kafka_topics.outcomes() == expected.outcomes
        assert [letter.value for letter in kafka_topics.dead_letters()] == list(POISON)
        _check_requests(kafka_topics, expected.requests)
        assert kafka_topics.watermark_ms() == END_MS
        _check_metrics(
            httpx.get(f"{drift.url}/metrics", timeout=LIVENESS_SECONDS).text,
            unique_name,
            engine.totals.joined,
        )
        assert drift.stop() == 0
    assert kafka_topics.snapshots() >= 1


def _check_requests(kafka_topics: DriftTopics, expected):
    """Requests name the end offsets of the outcomes, which the engine does not know."""
    found = kafka_topics.requests()
    for request, wanted in zip(found, expected, strict=True):
        ends = request.offsets[topics.outcomes(kafka_topics.name)]
        assert sum(ends) <= kafka_topics.outcomes_written()
        assert len(ends) == PARTITIONS
        offsets = wanted.offsets | {topics.outcomes(kafka_topics.name): ends}
        assert request == msgspec.structs.replace(wanted, offsets=offsets)


def _check_metrics(text: str, name: str, joined: int):
    assert f'driftline_labels_total{{model="{name}",result="joined"}} {float(joined)}' in text
    letters = f'driftline_dead_letters_total{{kind="invalid",service="drift",topic="{name}.labels"}}'
    assert f"{letters} {float(len(POISON))}" in text
    assert f'driftline_drift_alarms_total{{kind="feature",model="{name}"}} 1.0' in text
    assert f'driftline_drift_effect{{feature="x",model="{name}"}}' in text
    assert f'driftline_label_coverage_ratio{{model="{name}"}}' in text


def records_of(log: Sequence[Entry]) -> list[Any]:
    return [entry.record for entry in log]


def with_corrections(traffic: scenario.Traffic) -> scenario.Traffic:
    """Let every third label have another value an hour later, and every seventh request be asked again."""
    labels, predictions = [], []
    for log in traffic.labels:
        *found, end = records_of(log)
        later = [
            msgspec.structs.replace(each, value=1 - each.value, event_time_ms=each.event_time_ms + HOUR_MS)
            for each in found[::3]
        ]
        ordered = sorted([*found, *later], key=lambda each: each.event_time_ms)
        labels.append(scenario.with_label_offsets([*ordered, end]))
    for log in traffic.predictions:
        *found, end = records_of(log)
        again = [
            msgspec.structs.replace(each, event_time_ms=each.event_time_ms + 1000, score=0.5)
            for each in found[::7]
        ]
        ordered = sorted([*found, *again], key=lambda each: each.event_time_ms)
        numbered = [msgspec.structs.replace(each, source_offset=at) for at, each in enumerate(ordered)]
        predictions.append(scenario.numbered([*numbered, end]))
    return scenario.Traffic(predictions, labels)


def test_a_restart_continues_from_the_snapshot_and_writes_nothing_twice(local, unique_name, tmp_path):
    """Corrections and ids that are asked again included."""
    kafka_topics = DriftTopics(local, unique_name, tmp_path)
    traffic = with_corrections(scenario.traffic(HOURS, seed=8, name=unique_name))
    engine = scenario.new_engine(scenario.declaration(unique_name), PARTITIONS)
    expected = scenario.play(engine, traffic)
    assert engine.totals.corrected > 100
    assert engine.totals.asked_again > 100
    kafka_topics.send_model()
    half_ms = START_MS + HOURS * HOUR_MS // 2
    with Process("drift", kafka_topics.settings, log=tmp_path / "drift.log") as drift:
        rest = {}
        for kind, logs in ((PREDICTION, traffic.predictions), (LABEL, traffic.labels)):
            for number, log in enumerate(logs):
                middle = len(log) // 2
                kafka_topics.send(kind, number, log[:middle])
                rest[kind, number] = log[middle:]
        kafka_topics.wait_for_watermark(half_ms - 3 * HOUR_MS, drift.check)
        assert drift.stop() == 0
        drift.start()
        for (kind, number), log in rest.items():
            kafka_topics.send(kind, number, log)
        kafka_topics.wait_for_watermark(END_MS, drift.check)
        assert "drift.restored" in drift.output()
        assert drift.stop() == 0
    assert kafka_topics.drift() == expected.drift
    assert kafka_topics.outcomes() == expected.outcomes
    assert kafka_topics.outcomes_written() == sum(map(len, expected.outcomes.values()))
