"""What a learner keeps when the declaration changes."""

import msgspec
import pytest

from services.learning import learner_basis
from services.learning.arms_update import Announcement
from services.learning.learner_state import LearnerState, Lesson, fresh_state
from services.monitoring.pending_predictions import PendingPrediction
from services.monitoring.waiting_labels import WaitingLabel
from streams import records
from tests.unit.learning import traffic

HOUR_MS = 3_600_000
NAMES = ["x", "colour"]


@pytest.fixture
def state() -> LearnerState:
    """After the second interval of two hours, with an open one."""
    kept = fresh_state("m", 1, 1)
    learner_basis.fit(kept, traffic.declaration(), NAMES)
    kept.lessons = [Lesson(1, "p", 1.0, [0.5, "red"])]
    kept.pending = [PendingPrediction("q", 1, 1, 0, "a", 0.5, None, {}, features=[0.7, "blue"])]
    kept.first_ms, kept.interval_end_ms = 10 * HOUR_MS, 16 * HOUR_MS
    kept.learned = [Announcement(2, 14 * HOUR_MS, 17 * HOUR_MS, 60)]
    kept.counts.learned = 60
    kept.estimator = b"learned"
    return kept


def test_the_same_declaration_keeps_all(state: LearnerState) -> None:
    before = msgspec.msgpack.encode(state)
    assert learner_basis.fit(state, traffic.declaration(), NAMES) == {}
    assert msgspec.msgpack.encode(state) == before


def test_features_go_on_by_name(state: LearnerState) -> None:
    changed = learner_basis.fit(state, traffic.declaration(), ["colour", "new"])
    assert changed == {"features": "x, colour"}
    assert state.lessons[0].features == ["red", None]
    assert state.pending[0].features == ["blue", None]
    assert state.estimator == b"learned"


def test_another_definition_of_a_feature_begins_anew(state: LearnerState) -> None:
    """The estimator, the lessons and what waits hold the feature with its former meaning."""
    known = {"x": "one hour"}
    assert learner_basis.fit(state, traffic.declaration(), NAMES, known) == {}, "of older versions"
    assert state.counts.learned == 60
    state.on_disk.store = "s"
    changed = learner_basis.fit(state, traffic.declaration(), NAMES, {"x": "two hours"})
    assert changed == {"definition of x": "one hour"}
    assert state.estimator is None
    assert (state.lessons, state.counts.learned) == ([], 0)
    assert [each.features for each in state.pending] == [[]]
    assert (state.first_ms, state.on_disk.store) == (10 * HOUR_MS, "")
    assert learner_basis.fit(state, traffic.declaration(), NAMES, {"x": "two hours"}) == {}


def test_a_feature_that_is_added_or_removed_changes_no_other_definition(state: LearnerState) -> None:
    learner_basis.fit(state, traffic.declaration(), NAMES, {"x": "one hour"})
    more = {"x": "one hour", "new": "two hours"}
    assert learner_basis.fit(state, traffic.declaration(), [*NAMES, "new"], more).keys() == {"features"}
    assert learner_basis.fit(state, traffic.declaration(), ["colour"], {}).keys() == {"features"}
    assert state.estimator == b"learned"


def test_another_meaning_of_labels_begins_anew(state: LearnerState) -> None:
    label = traffic.document()["label"] | {
        "value": "z",
        "schema": {"id": "string", "at": "timestamp", "z": "int"},
    }
    known = records.Label(prediction_id="w", event_time_ms=1, value=1.0, source_partition=0, source_offset=0)
    state.waiting_labels = [WaitingLabel(known, 1)]
    assert learner_basis.fit(state, traffic.declaration(label=label), NAMES).keys() == {"labels"}
    assert (state.estimator, state.lessons, state.counts.learned) == (None, [], 0)
    assert state.waiting_labels == []
    assert state.first_ms == 10 * HOUR_MS


@pytest.mark.parametrize("hours", [1, 3, 24])
@pytest.mark.parametrize("is_open", [True, False])
def test_another_interval_numbers_versions_on(state: LearnerState, hours: int, *, is_open: bool) -> None:
    if not is_open:
        state.interval_end_ms = None
    learning = {"every_hours": hours, "effective_after_hours": 3, "minimum_labels": 50}
    assert learner_basis.fit(state, traffic.declaration(learning=learning), NAMES).keys() == {"interval"}
    length_ms = hours * HOUR_MS
    assert state.first_ms is not None
    end_ms = (14 * HOUR_MS // length_ms + 1) * length_ms
    assert state.interval_end_ms == (end_ms if is_open else None)
    assert (end_ms - state.first_ms) / length_ms == 3
    assert state.learned == []


def test_a_checkpoint_of_an_older_version_is_kept_where_its_rows_fit(state: LearnerState) -> None:
    state.names, state.basis = [], {}
    assert learner_basis.fit(state, traffic.declaration(), NAMES) == {}
    assert state.lessons[0].features == [0.5, "red"]
    assert state.names == NAMES


def test_rows_of_an_older_version_that_do_not_fit_are_left_out(state: LearnerState) -> None:
    state.names, state.basis = [], {}
    assert learner_basis.fit(state, traffic.declaration(), [*NAMES, "new"]) == {"features": "unknown"}
    assert (state.lessons, state.pending[0].features) == ([], [])
