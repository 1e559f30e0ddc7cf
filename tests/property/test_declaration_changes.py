"""A change of any setting over a living state: nothing stops, and nothing is read with another's meaning.

The settings are found from the declaration's types, so a new one is tested from the day on which it is added.
"""

from typing import Any

import pytest

from services.drift.engine import DriftOutputs
from services.drift.monitored_model import SNAPSHOTS
from services.runtime.declaration import ModelDeclaration
from streams import records
from tests import declaration_changes
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS
from tests.unit.learning import traffic as learning_traffic

HOURS, CHANGED_AT = 14, 5
COSTS = {"unit": "USD", "costs": {"0": {"0": 0.0, "1": 5.0}, "1": {"0": 1.0, "1": 0.0}}}


def document() -> dict[str, Any]:
    """Return a declaration with nearly every section."""
    declared = scenario.document(
        minimum_labels=20,
        quality={"x": {"min": -2, "max": 2}, "colour": {"allowed": ["red", "blue"]}},
        lateness_hours=4,
    )
    objective = {"objective": 0.9}
    slo = {"latency": objective | {"within_ms": 25}, "availability": objective, "accuracy": objective}
    return declared | {"business": COSTS, "slo": slo}


DRIFT = declaration_changes.changes(document())
LEARNING = declaration_changes.changes(learning_traffic.document())
LOGS = scenario.traffic(HOURS, seed=3, partitions=1, a_hour=20)


def cases(found: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(declared, id=f"{path} {number}")
        for path, each in found.items()
        for number, (_, declared) in enumerate(each)
    ]


def test_every_setting_is_changed() -> None:
    assert not [path for path in DRIFT if not DRIFT[path] and not LEARNING[path]]


@pytest.fixture(scope="module")
def snapshot() -> bytes:
    """The state of drift in the middle of a window, with predictions that wait for labels."""
    engine = scenario.new_engine(ModelDeclaration.model_validate(document()))
    until = START_MS + CHANGED_AT * HOUR_MS + HOUR_MS // 2
    player = scenario.Player(LOGS)
    for place, log in player.logs.items():
        size = sum(_time_of(entry.record) < until for entry in log)
        player.step(engine, place, size)
    return SNAPSHOTS.encode("m", "m.labels", engine.state())


def _time_of(record: Any) -> int:
    return record if isinstance(record, int) else record.event_time_ms


def _restored(snapshot: bytes, declared: ModelDeclaration) -> DriftOutputs:
    engine = scenario.new_engine(declared, 1, SNAPSHOTS.decode(snapshot, "m", "m.labels"))
    player, outputs = scenario.Player(LOGS), []
    player.seek(engine)
    while places := player.open:
        outputs.append(player.step(engine, places[0], 50))
    engine.state()
    return scenario.merge(outputs)


@pytest.mark.parametrize("declared", cases(DRIFT))
def test_drift_goes_on_and_later_windows_are_those_of_a_new_state(
    declared: ModelDeclaration, snapshot: bytes
) -> None:
    restored = _restored(snapshot, declared)
    fresh = scenario.play(scenario.new_engine(declared), LOGS)
    settled_ms = START_MS + CHANGED_AT * HOUR_MS + declared.label.horizon_ms + declared.monitoring.window_ms
    expected = _windows(fresh, settled_ms)
    assert expected or declared.label.horizon_hours > 4 or declared.monitoring.window_hours > 1
    assert _windows(restored, settled_ms) == expected
    assert _cohorts(restored, settled_ms) == _cohorts(fresh, settled_ms)
    for report in scenario.reports(restored):
        assert all(sum(each.bins.counts) == report.predictions for each in report.features if each.bins)
        assert all(each.values <= report.predictions for each in report.quality)


def _windows(outputs: DriftOutputs, settled_ms: int) -> dict[str, Any]:
    """Return what the reports say of windows that hold only what came after the change."""
    return {
        report.report_id: (
            report.predictions, report.labels, report.features, report.score, report.quality, report.log_loss,
            report.measures, report.accuracy, report.shadow_losses, report.segments, report.relations,
        )
        for report in scenario.latest(outputs)
        if report.window_start_ms > settled_ms
    }  # fmt: skip


def _cohorts(outputs: DriftOutputs, settled_ms: int) -> dict[Any, Any]:
    return {
        (report.report_id, report.state): (report.predictions, report.labels, [
            (each.segment, [(figure.measure, figure.realised) for figure in each.figures])
            for each in report.segments
        ])
        for report in outputs.drift
        if isinstance(report, records.PerformanceReport) and report.window_start_ms > settled_ms
        and report.state == "complete"
    }  # fmt: skip


OUTSIDE = ("owner", "team", "limits", "alerts", "slo", "rollout", "gates", "request.key", "features.missing")


@pytest.fixture(scope="module")
def unchanged(snapshot: bytes) -> DriftOutputs:
    return _restored(snapshot, ModelDeclaration.model_validate(document()))


@pytest.mark.parametrize("declared", cases({p: each for p, each in DRIFT.items() if p.startswith(OUTSIDE)}))
def test_what_drift_does_not_depend_on_changes_nothing(
    declared: ModelDeclaration, snapshot: bytes, unchanged: DriftOutputs
) -> None:
    changed = _restored(snapshot, declared)
    assert changed.drift == unchanged.drift
    assert changed.outcomes == unchanged.outcomes
