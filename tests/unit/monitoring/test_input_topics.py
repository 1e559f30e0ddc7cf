"""Offsets of one topic are never those of another."""

import msgspec
import pytest
from structlog.testing import capture_logs

from services.drift.drift_state import starting_state
from services.monitoring.input_topics import InputTopics, restart_if_recreated
from services.monitoring.pending_rebuild import PendingMark, RebuildPoint
from streams.inputs import Resume
from tests.unit.drift import scenario


def test_reading_goes_on_in_the_same_topic() -> None:
    resumes = [Resume(7, 100)]
    assert not restart_if_recreated(resumes, "a@1", "a@1", [7])
    assert resumes == [Resume(7, 100)]


@pytest.mark.parametrize(("now", "ends"), [("a@2", [9, 9]), ("a@1", [6, 9]), ("a@1", [9])])
def test_another_topic_is_read_from_its_start_and_time_does_not_go_back(now: str, ends: list[int]) -> None:
    resumes = [Resume(7, 100), Resume(8, 200)]
    assert restart_if_recreated(resumes, "a@1", now, ends)
    assert resumes == [Resume(0, 100)] * len(ends)


def test_drift_reads_a_label_topic_that_was_recreated_from_its_start() -> None:
    feeder = scenario.EngineFeeder()
    for number in range(5):
        feeder.predict(number, number)
        feeder.label(number, 5 + number, 1.0)
    feeder.until(30)
    before = InputTopics("p@1", "l@1", [100], [100])
    state = starting_state(scenario.declaration(), 1, 1, feeder.engine.state(), before)
    pending, at = len(state.pending), state.labels[0]
    old = RebuildPoint(0, [Resume(1)], [Resume(2)], {})
    state.on_disk = PendingMark("disk", 1, [old])
    assert at.offset
    with capture_logs() as logs:
        state = starting_state(scenario.declaration(), 1, 1, state, InputTopics("p@1", "l@2", [100], [3]))
    assert state.labels == [Resume(0, at.bound_ms)]
    assert state.predictions[0].offset
    assert len(state.pending) == pending
    assert state.on_disk.points == [msgspec.structs.replace(old, labels=state.labels)]
    assert [(each["event"], each["input"]) for each in logs] == [("drift.topic_recreated", "labels")]
