"""Which parts of drift's state begin anew when the declaration changes."""

from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from services.drift import state_basis
from services.drift.alarms import SubjectAlarms
from services.drift.drift_state import DriftState, starting_state
from services.drift.monitored_model import SNAPSHOTS
from services.drift.windows.arm_sums import ArmSumsState
from services.monitoring.model_metrics import Measures
from services.monitoring.waiting_labels import WaitingLabel
from services.runtime.declaration import ModelDeclaration
from tests import declaration_changes
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS

COSTS = {"unit": "USD", "costs": {"0": {"0": 0, "1": 5}, "1": {"0": 1, "1": 0}}}


def document() -> dict[str, Any]:
    return scenario.document(quality={"x": {"min": -2, "max": 2}}) | {"business": COSTS}


def changed(**settings: Any) -> ModelDeclaration:
    change = {name.replace("__", "."): value for name, value in settings.items()}
    return ModelDeclaration.model_validate(declaration_changes.patched(document(), change))


@pytest.fixture
def snapshot() -> DriftState:
    """A state in the middle of a window, after labels."""
    engine = scenario.new_engine(changed())
    logs = scenario.traffic(6, partitions=1)
    for place, log in scenario.Player(logs).logs.items():
        kept = [each for each in log if _time_ms(each.record) < START_MS + 5.5 * HOUR_MS]
        scenario.feed(engine, *place, kept)
    engine.advance()
    return SNAPSHOTS.decode(SNAPSHOTS.encode("m", "m.labels", engine.state()), "m", "m.labels")


def _time_ms(record: Any) -> int:
    return record if isinstance(record, int) else record.event_time_ms


def restore(declared: ModelDeclaration, snapshot: DriftState) -> tuple[DriftState, list[str]]:
    """Return the restored state, and the parts that were logged to begin anew."""
    with capture_logs() as logs:
        state = starting_state(declared, 1, 1, snapshot)
    return state, [each["part"] for each in logs if each["event"] == "drift.part_reset"]


def test_the_same_declaration_keeps_all(snapshot: DriftState) -> None:
    expected = SNAPSHOTS.encode("m", "m.labels", snapshot)
    state, logged = restore(changed(), snapshot)
    assert SNAPSHOTS.encode("m", "m.labels", state) == expected
    assert logged == []


def test_another_meaning_of_labels_begins_all_sums_over_labels_anew(snapshot: DriftState) -> None:
    assert snapshot.window is not None
    counts = snapshot.window.bin_counts
    state, logged = restore(changed(label__positive_above=30), snapshot)
    assert logged == ["labels"]
    assert state.window is not None
    assert {(arm.predictions > 0, len(arm.measures)) for arm in state.window.arms} == {(True, 0)}
    assert state.window.bin_counts == counts
    assert (state.evaluator.performance.cohorts, state.evaluator.monitor.labels) == ([], 0)


@pytest.mark.parametrize(
    ("setting", "value", "kept"), [("label__positive_above", 30, 0), ("threshold", 0.7, 1), ("owner", "p", 1)]
)
def test_labels_that_wait_are_dropped_if_their_value_has_another_meaning(
    setting: str, value: Any, kept: int, snapshot: DriftState
) -> None:
    snapshot.waiting_labels = [WaitingLabel(scenario.label(1, START_MS, 1.0), START_MS)]
    state, _ = restore(changed(**{setting: value}), snapshot)
    assert len(state.waiting_labels) == kept


def test_other_costs_begin_the_cost_anew_and_keep_the_loss(snapshot: DriftState) -> None:
    assert snapshot.window is not None
    labels = snapshot.evaluator.monitor.labels
    before = msgspec.convert(msgspec.to_builtins(snapshot.window.arms), list[ArmSumsState])
    assert all(arm.measures[-1].total.count for arm in before)
    state, logged = restore(changed(business=COSTS | {"unit": "EUR"}), snapshot)
    assert state.window is not None
    assert logged == ["costs"]
    for arm, now in zip(before, state.window.arms, strict=True):
        assert now.measures[:-1] == arm.measures[:-1]
        assert now.measures[-1].total.count == 0
    assert state.evaluator.monitor.labels == labels > 0


def test_costs_that_are_removed_leave_the_other_measures(snapshot: DriftState) -> None:
    declared = changed(business=None)
    state, _ = restore(declared, snapshot)
    assert state.window is not None
    assert {len(arm.measures) for arm in state.window.arms} == {len(Measures(declared).names)}


def test_a_changed_quality_bound_begins_its_counts_anew_and_keeps_the_others(snapshot: DriftState) -> None:
    before = snapshot.window
    assert before is not None
    same = scenario.new_engine(changed(), 1, snapshot).state().window
    assert same is not None
    assert sum(same.faults[0]) == before.predictions
    quality = {"x": {"min": -1}, "colour": {"allowed": ["red"]}}
    after = scenario.new_engine(changed(monitoring__quality=quality), 1, snapshot).state().window
    assert after is not None
    assert [rule.split(":")[0] for rule in after.rules] == ["x", "colour"]
    assert [sum(each) for each in after.faults] == [0, 0]


def test_alarms_about_a_bound_that_is_not_declared_any_more_are_removed(snapshot: DriftState) -> None:
    declared = changed(monitoring__quality=None, features__from_request=["colour"])
    snapshot.evaluator.watches |= {"quality:x": SubjectAlarms(), "feature:x": SubjectAlarms()}
    state, _ = restore(declared, snapshot)
    assert "quality:x" not in state.evaluator.watches
    assert "feature:x" in state.evaluator.watches


def test_another_length_of_windows_keeps_the_open_window_and_begins_cohorts_anew(
    snapshot: DriftState,
) -> None:
    state, logged = restore(changed(monitoring__window_hours=2), snapshot)
    assert logged == ["cohorts"]
    assert state.window == snapshot.window
    assert state.evaluator.performance.cohorts == []
    assert state.evaluator.monitor.labels


def test_another_task_forgets_the_answers_that_wait_for_labels(snapshot: DriftState) -> None:
    declared = changed(task="regression", gates=None, business=None, label__positive_above=None)
    state, _ = restore(declared, snapshot)
    assert state.pending
    assert {entry.score for entry in state.pending} == {None}


def test_a_state_of_an_older_version_goes_on_where_its_shapes_fit(snapshot: DriftState) -> None:
    snapshot.basis = {}
    state, logged = restore(changed(), snapshot)
    assert logged == []
    assert state.evaluator.performance.cohorts


def test_a_state_of_an_older_version_begins_anew_where_its_shapes_differ(snapshot: DriftState) -> None:
    snapshot.basis = {}
    _, logged = restore(changed(business=None, monitoring__window_hours=2), snapshot)
    assert logged == ["costs", "cohorts"]


def test_a_basis_is_readable() -> None:
    assert state_basis.basis_of(scenario.declaration())["cohorts"] == "3600000 ms"
