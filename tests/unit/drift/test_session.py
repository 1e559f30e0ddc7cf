"""The order in which a session writes, and its snapshots."""

import pytest
from kafka import TopicPartition

from services.drift.monitored_model import SNAPSHOTS
from services.monitoring.row_sample import RowSample
from services.runtime import large_records
from streams import records, topics
from tests.unit.drift import scenario
from tests.unit.drift.memory_session import MemoryDrift
from tests.unit.drift.scenario import HOUR_MS, START_MS

PREDICTIONS, LABELS, OUTCOMES = topics.predictions("m"), "m.labels", topics.outcomes("m")
HOURS = 12


@pytest.fixture
def traffic():
    return scenario.traffic(HOURS, seed=4, partitions=1, a_hour=200, shift_at=4)


def test_outcomes_are_written_before_the_reports_and_the_requests_that_refer_to_them(traffic):
    kafka = MemoryDrift()
    kafka.control.write(topics.MODELS.name, records.encode(scenario.model_changed()))
    kafka.send(traffic)
    kafka.session.step()
    assert kafka.outbox.topics[:3] == [OUTCOMES, topics.DRIFT.name, topics.RETRAINING.name]
    expected = scenario.play(scenario.new_engine(), traffic)
    assert kafka.read(topics.DRIFT.name, records.DriftRecord) == expected.drift
    assert kafka.read(OUTCOMES, records.Outcome) == expected.outcomes[0]
    requests = kafka.read(topics.RETRAINING.name, records.RetrainingRecord)
    assert len(requests) == len(expected.requests) > 0
    written = len(expected.outcomes[0])
    assert [request.offsets[OUTCOMES] for request in requests] == [[written]] * len(requests)


def test_the_watermark_is_published_once_everything_is_written(traffic):
    kafka = MemoryDrift()
    kafka.session.step()
    assert kafka.redis.hashes == {}
    kafka.send(traffic)
    kafka.session.step()
    end_ms = START_MS + (HOURS + 6) * HOUR_MS
    assert kafka.redis.hashes == {"driftline:watermarks:drift.m": {"0": end_ms}}


def test_a_version_that_the_models_topic_does_not_contain_has_no_reference(traffic):
    kafka = MemoryDrift()
    kafka.send(traffic)
    kafka.session.step()
    reports = [
        record
        for record in kafka.read(topics.DRIFT.name, records.DriftRecord)
        if isinstance(record, records.DriftReport)
    ]
    assert reports
    assert all(report.features == [] for report in reports)


def test_the_last_snapshot_goes_on_with_everything_that_was_written(traffic):
    kafka = MemoryDrift()
    kafka.session.keep_all()
    assert kafka.consumer.values(topics.DRIFT_STATE.name) == [], "nothing was processed"
    kafka.send(traffic)
    kafka.session.step()
    kafka.session.keep_all()
    state = SNAPSHOTS.decode(kafka.consumer.values(topics.DRIFT_STATE.name)[-1], "m", LABELS)
    assert [at.offset for at in state.predictions] == [len(traffic.predictions[0])]
    assert [at.offset for at in state.labels] == [len(traffic.labels[0])]


def test_a_snapshot_larger_than_a_record_is_written_in_parts(traffic, monkeypatch):
    monkeypatch.setattr(large_records, "PART_BYTES_MAX", 500)
    kafka = MemoryDrift()
    kafka.send(traffic)
    kafka.session.step()
    kafka.session.keep_all()
    assert max(map(len, kafka.consumer.values(topics.DRIFT_STATE.name))) <= 500
    reader = large_records.LargeRecordReader([b"m"])
    for offset, each in enumerate(kafka.consumer.logs[TopicPartition(topics.DRIFT_STATE.name, 0)]):
        reader.take(offset, each.key, each.value)
    state = SNAPSHOTS.decode(reader.found()[b"m"].value, "m", LABELS)
    assert [at.offset for at in state.predictions] == [len(traffic.predictions[0])]


def test_a_record_that_cannot_be_decoded_is_a_dead_letter():
    kafka = MemoryDrift()
    kafka.consumer.write(LABELS, b"not JSON")
    kafka.consumer.write_records(PREDICTIONS, [scenario.kafka_record(START_MS)])
    kafka.consumer.write_records(LABELS, [scenario.kafka_record(START_MS)])
    kafka.session.step()
    (letter,) = kafka.read(topics.DEAD_LETTERS.name, records.DeadLetter)
    assert (letter.topic, letter.value) == (LABELS, b"not JSON")


def test_a_sample_of_a_model_leaves_no_label_orphaned_and_no_prediction_unlabelled():
    traffic = scenario.traffic(12, seed=4, partitions=1, a_hour=60)
    found = {}
    for share in (1.0, 0.3):
        kafka = MemoryDrift()
        kafka.folder.valid["m"] = scenario.declaration(sample=share)
        kafka.session = kafka.open_session()
        kafka.control.write(topics.MODELS.name, records.encode(scenario.model_changed()))
        kafka.send(traffic)
        kafka.step_to_end()
        kafka.session.keep_all()
        found[share] = kafka
    whole, part = (found[share].state().totals for share in (1.0, 0.3))
    assert 0.2 < part.predictions / whole.predictions < 0.4
    assert 0.2 < part.joined / whole.joined < 0.4
    assert part.orphaned + part.unlabelled <= 0.4 * (whole.orphaned + whole.unlabelled) + 3
    reports = [
        each
        for each in found[0.3].read(topics.DRIFT.name, records.DriftRecord)
        if isinstance(each, records.DriftReport | records.PerformanceReport)
    ]
    assert {each.sample for each in reports} == {0.3}
    read = found[0.3].read(topics.outcomes("m"), records.Outcome)
    assert all(RowSample(0.3).includes(each.prediction_id) for each in read)
