"""Metrics and the pace of snapshots."""

from prometheus_client import REGISTRY

from services.drift.drift_metrics import DriftMetrics
from services.drift.engine import DriftOutputs
from services.runtime.snapshots import SnapshotPace
from tests.unit.drift import scenario

CLOSED = DriftOutputs(windows_closed=1)


def pace(*outputs, cost_seconds=0.0):
    made = SnapshotPace()
    made.taken(100.0 - cost_seconds, 100.0)
    for each in outputs:
        made.note(each.windows_closed)
    return made


def test_nothing_new_needs_no_snapshot():
    assert not pace().due(10_000)


def test_snapshot_is_due_soon_after_a_window_has_closed():
    assert not pace(CLOSED).due(101)
    assert pace(CLOSED).due(102)


def test_snapshot_is_due_in_time_within_a_long_window():
    assert not pace(DriftOutputs()).due(114)
    assert pace(DriftOutputs()).due(115)


def test_large_state_is_kept_less_often():
    assert not pace(CLOSED, cost_seconds=3).due(199)
    assert pace(CLOSED, cost_seconds=3).due(200)


def metric(name, **labels):
    return REGISTRY.get_sample_value(f"driftline_{name}", {"model": "observed", **labels})


def test_metrics_follow_the_totals_and_count_nothing_of_before_a_restart():
    engine = scenario.new_engine(scenario.declaration("observed"), partitions=2)
    observer = DriftMetrics(engine, scenario.declaration())
    observer.observe(scenario.play(engine, scenario.traffic(6, shift_at=0, a_hour=200, name="observed")))
    assert metric("labels_total", result="joined") == engine.totals.joined
    assert metric("drift_records_total", input="predictions", result="taken") == 1200
    assert metric("drift_pending") == 0
    assert metric("drift_effect", feature="x") > 1
    assert metric("drift_evidence", feature="x") > 10
    assert metric("drift_alarms_total", kind="feature") == 1
    assert metric("log_loss", arm="frozen") > 0
    DriftMetrics(engine, scenario.declaration()).observe(DriftOutputs())
    assert metric("labels_total", result="joined") == engine.totals.joined
