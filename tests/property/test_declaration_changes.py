"""A change of any setting over a living state: nothing stops, and nothing is read with another's meaning.

The settings are found from the declaration's types, so a new one is tested from the day on which it is added.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from services.drift.engine import DriftOutputs
from services.drift.monitored_model import SNAPSHOTS
from services.learning.learner import Learner
from services.learning.learner_state import fresh_state
from services.learning.session import CHECKPOINTS
from services.runtime.declaration import ModelDeclaration
from streams import records
from streams.feature_sets import FeatureSets, feature_set
from tests import declaration_changes
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS, Traffic
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


NEED_SEGMENTS = "gates.segments"
"""Settings that need another one, on which drift depends."""
OUTSIDE = ("owner", "team", "limits", "alerts", "slo", "rollout", "gates", "request.key", "features.missing",
           "governance")  # fmt: skip


@pytest.fixture(scope="module")
def unchanged(snapshot: bytes) -> DriftOutputs:
    return _restored(snapshot, ModelDeclaration.model_validate(document()))


@pytest.mark.parametrize("declared", cases(
    {path: each for path, each in DRIFT.items()
     if path.startswith(OUTSIDE) and not path.startswith(NEED_SEGMENTS)}
))  # fmt: skip
def test_what_drift_does_not_depend_on_changes_nothing(
    declared: ModelDeclaration, snapshot: bytes, unchanged: DriftOutputs
) -> None:
    changed = _restored(snapshot, declared)
    assert changed.drift == unchanged.drift
    assert changed.outcomes == unchanged.outcomes


LESSONS = learning_traffic.traffic(HOURS, partitions=1, a_hour=20)


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    """The state of a learner in the middle of an interval, with predictions that wait for labels."""
    learner = learning_traffic.new_learner(1, learning=LEARNING_SETTINGS)
    until = START_MS + CHANGED_AT * HOUR_MS + HOUR_MS // 2
    player = learning_traffic.Player(LESSONS)
    for place, log in player.logs.items():
        player.step(learner, place, sum(_time_of(record) < until for record in log))
    return CHECKPOINTS.encode("m", "m.labels", learner.state())


LEARNING_SETTINGS = {"every_hours": 2, "effective_after_hours": 3, "minimum_labels": 20}


def _learned(checkpoint: bytes, declared: ModelDeclaration, names: Sequence[str]) -> Learner:
    state = fresh_state("m", 1, 1, CHECKPOINTS.decode(checkpoint, "m", "m.labels"))
    sets = FeatureSets([feature_set("m", learning_traffic.NAMES, ["colour"])])
    learner = Learner(declared, names, learning_traffic.estimator, state, sets)
    player = learning_traffic.Player(LESSONS)
    player.seek(learner)
    outputs = [player.step(learner, place, 10**6) for place in player.open]
    versions = [each.version for each in learning_traffic.published(outputs)]
    assert versions == sorted(set(versions))
    assert declared.learning is not None
    assert versions or learner.counts.learned < declared.learning.minimum_labels
    return learner


@pytest.mark.parametrize("declared", cases(LEARNING))
def test_a_learner_goes_on_with_rising_versions(declared: ModelDeclaration, checkpoint: bytes) -> None:
    if declared.learning is None:
        return  # it is not opened any more
    learner = _learned(checkpoint, declared, learning_traffic.NAMES)
    assert learner.counts.unfit == learner.totals.unnamed == 0


def extreme_cases(content: dict[str, Any], *sections: str) -> list[Any]:
    return [
        pytest.param(declared, id=f"{path} {number}")
        for path, each in declaration_changes.extremes(content).items()
        if path.startswith(sections)
        for number, declared in enumerate(each)
    ]


SHORT = scenario.traffic(5, seed=3, partitions=1, a_hour=20)


@pytest.mark.parametrize(
    "declared", extreme_cases(document(), "threshold", "label", "monitoring", "business", "retraining")
)
def test_drift_takes_the_least_and_the_greatest_number_that_a_declaration_may_have(
    declared: ModelDeclaration,
) -> None:
    engine = scenario.new_engine(declared)
    outputs = scenario.play(engine, SHORT)
    assert SNAPSHOTS.decode(SNAPSHOTS.encode("m", "m.labels", engine.state()), "m", "m.labels")
    for report in outputs.drift:
        assert records.decoder_of(type(report)).decode(records.encode(report))


@pytest.mark.parametrize("declared", extreme_cases(learning_traffic.document(), "label", "learning"))
def test_a_learner_takes_the_least_and_the_greatest_number_that_a_declaration_may_have(
    declared: ModelDeclaration,
) -> None:
    state = fresh_state("m", 1, 1)
    sets = FeatureSets([feature_set("m", learning_traffic.NAMES, ["colour"])])
    learner = Learner(declared, learning_traffic.NAMES, learning_traffic.estimator, state, sets)
    player = learning_traffic.Player(LESSONS)
    player.seek(learner)
    for place in player.open:
        player.step(learner, place, 10**6)
    assert CHECKPOINTS.decode(CHECKPOINTS.encode("m", "m.labels", learner.state()), "m", "m.labels")


FEATURE_CHANGES = [
    ["colour", "x"],
    ["x"],
    ["x", "colour", "added"],
    ["x2", "colour"],
    ["added", "colour", "x"],
]
"""Another order; a feature removed, added and renamed; an order with an addition."""


@pytest.mark.parametrize("names", FEATURE_CHANGES)
def test_a_learner_knows_features_by_name(names: list[str], checkpoint: bytes) -> None:
    declared = learning_traffic.declaration(learning=LEARNING_SETTINGS)
    learner = _learned(checkpoint, declared, names)
    assert learner.counts.unfit == learner.totals.unnamed == 0
    for lesson in learner.state().lessons:
        row = dict(zip(names, lesson.features, strict=True))
        assert isinstance(row.get("colour", ""), str)
        assert isinstance(row.get("x", 0.0), float | int | None)
        assert row.get("added") is row.get("x2") is None


@pytest.mark.parametrize("names", FEATURE_CHANGES)
def test_drift_places_features_by_name(names: list[str], snapshot: bytes, unchanged: DriftOutputs) -> None:
    """From the change on rows are served with other features; those that remain are counted as before."""
    declared = ModelDeclaration.model_validate(document())
    served = feature_set("m", names, ["colour"])
    engine = scenario.new_engine(declared, 1, SNAPSHOTS.decode(snapshot, "m", "m.labels"))
    for published in (feature_set("m", ["x", "colour"], ["colour"]), served):
        engine.add_model(published)

    def turned(record: Any) -> Any:
        if not isinstance(record, records.Prediction):
            return record
        row = dict(zip(("x", "colour"), record.features, strict=True))
        return msgspec.structs.replace(
            record, features=[row.get(name) for name in names], feature_set=served.digest
        )

    logs = Traffic(
        [[scenario.Entry(each.offset, turned(each.record)) for each in log] for log in LOGS.predictions],
        LOGS.labels,
    )
    player, outputs = scenario.Player(logs), []
    player.seek(engine)
    while places := player.open:
        outputs.append(player.step(engine, places[0], 50))
    assert engine.totals.unnamed == 0
    for found, expected in zip(_reports(scenario.merge(outputs)), _reports(unchanged), strict=True):
        for name in {"x", "colour"} & set(names):
            assert found[name] == expected[name]
        for name in {"x", "colour"} - set(names):
            assert found[name].missing_share == 1 or not found[name].bins


def _reports(outputs: DriftOutputs) -> list[dict[str, records.FeatureDrift]]:
    after_ms = START_MS + (CHANGED_AT + 1) * HOUR_MS
    return [
        {each.feature: each for each in report.features}
        for report in scenario.latest(outputs)
        if report.window_start_ms >= after_ms and report.predictions
    ]
