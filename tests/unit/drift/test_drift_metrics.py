"""Metrics of the drift process, from the outputs of an engine."""

from prometheus_client import REGISTRY

from services.drift.drift_metrics import DriftMetrics
from services.drift.engine import DriftOutputs
from tests.unit.drift import scenario


def metric(name, **labels):
    return REGISTRY.get_sample_value(f"driftline_{name}", {"model": "observed", **labels})


def test_metrics_follow_the_totals_and_count_nothing_twice_after_a_restart():
    engine = scenario.new_engine(scenario.declaration("observed"), partitions=2)
    drift_metrics = DriftMetrics(engine, scenario.declaration())
    drift_metrics.observe(scenario.play(engine, scenario.traffic(6, shift_at=0, a_hour=200, name="observed")))
    assert metric("labels_total", result="joined") == engine.totals.joined
    assert metric("drift_records_total", input="predictions", result="taken") == 1200
    assert metric("drift_pending") == 0
    assert metric("drift_effect", feature="x") > 1
    assert metric("drift_evidence", feature="x") > 10
    assert metric("drift_alarms_total", kind="feature") == 1
    assert metric("log_loss", arm="frozen") > 0
    DriftMetrics(engine, scenario.declaration()).observe(DriftOutputs())
    assert metric("labels_total", result="joined") == engine.totals.joined
