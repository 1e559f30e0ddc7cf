"""Metrics of the drift process, from the outputs of an engine."""

import msgspec
from prometheus_client import REGISTRY

from services.drift.drift_metrics import DriftMetrics
from services.drift.engine import DriftOutputs
from services.monitoring import arm_comparison
from streams import records
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
    assert (metric("drift_alarms_active", kind="feature"), metric("drift_alarms_active", kind="quality")) == (
        1,
        0,
    )
    assert metric("log_loss", arm="frozen") > 0
    DriftMetrics(engine, scenario.declaration()).observe(DriftOutputs())
    assert metric("labels_total", result="joined") == engine.totals.joined
    drift_metrics.close()
    assert metric("drift_alarms_active", kind="feature") is None


def performance(**changes):
    counts = changes.pop("counts")
    whole = records.SegmentPerformance(segment="", predictions=20, labels=16, **counts)
    return records.PerformanceReport(
        report_id="r", model="observed", version=1, window_start_ms=0, window_end_ms=1, as_of_ms=1,
        revision=0, predictions=20, labels=16, maturity=1.0, segments=[whole], **changes,
    )  # fmt: skip


def test_mature_predictions_have_figures_by_threshold_or_class_and_no_earlier_series():
    drift_metrics = DriftMetrics(
        scenario.new_engine(scenario.declaration("observed")), scenario.declaration("observed")
    )
    binary = {"positives": [1, 2, 5], "negatives": [7, 1, 0]}
    made = {"counts": binary, "threshold": 0.61, "thresholds": [0.41, 0.61]}
    drift_metrics.observe(DriftOutputs(drift=[performance(state="provisional", **made)]))
    assert metric("performance_by_threshold", measure="recall", threshold="0.41") is None
    drift_metrics.observe(DriftOutputs(drift=[performance(state="mature", **made)]))
    assert metric("performance_by_threshold", measure="recall", threshold="0.41") == 7 / 8
    assert metric("performance_by_threshold", measure="precision", threshold="0.61") == 1.0
    assert metric("confusion", label="1", prediction="0") == 3
    classes = {"counts": {"confusion": [[3, 1], [0, 2]]}, "classes": ["cat", "dog"]}
    drift_metrics.observe(DriftOutputs(drift=[performance(state="complete", **classes)]))
    assert metric("performance_by_class", measure="precision", **{"class": "dog"}) == 2 / 3
    assert metric("confusion", label="cat", prediction="dog") == 1
    assert metric("confusion", label="1", prediction="0") is None
    assert metric("performance_by_threshold", measure="recall", threshold="0.41") is None


def test_values_of_the_last_window_are_beside_those_of_the_reference():
    declared = scenario.declaration("observed")
    engine = scenario.new_engine(declared, partitions=2)
    outputs = scenario.play(engine, scenario.traffic(3, shift_at=2, a_hour=200, name="observed"))
    DriftMetrics(engine, declared).observe(outputs)
    reports = [each for each in outputs.drift if isinstance(each, records.DriftReport) and each.predictions]
    (x,) = (each for each in reports[-1].features if each.feature == "x")
    confidence = reports[-1].confidence
    assert x.values is not None
    assert confidence is not None
    assert metric("feature_values", feature="x", statistic="mean", of="window") == x.values.mean
    assert metric("feature_values", feature="x", statistic="p50", of="window") == x.values.quantiles[2]
    assert metric("feature_values", feature="score", statistic="deviation", of="window") > 0
    assert metric("feature_values", feature="colour", statistic="mean", of="window") is None
    assert metric("confidence", statistic="mean", of="reference") == confidence.reference_mean
    assert metric("confidence", statistic="low_share", of="window") == confidence.low_share


def test_costs_are_those_of_the_latest_window_even_if_an_earlier_one_is_completed_later():
    drift_metrics = DriftMetrics(
        scenario.new_engine(scenario.declaration("observed")), scenario.declaration("observed")
    )
    account = records.CostAccount(
        total=32.0, reference=3.0, before=2.5, cumulative_labels=100, cumulative=150.0,
        compared_labels=90, saved=-12.0,
    )  # fmt: skip
    latest = performance(state="mature", counts={}, cost=account, unit="USD")
    earlier = msgspec.structs.replace(
        latest, window_start_ms=-5, state="complete", cost=msgspec.structs.replace(account, total=1.0)
    )
    drift_metrics.observe(DriftOutputs(drift=[latest, earlier]))
    assert metric("cost", unit="USD", span="window") == 32.0
    assert metric("cost", unit="USD", span="all") == 150.0
    assert metric("cost_saved", unit="USD", span="window") == 3.0 * 16 - 32
    assert metric("cost_saved", unit="USD", span="all") == -12.0
    assert [metric("cost_mean", unit="USD", of=of) for of in ("window", "reference", "before")] == [2, 3, 2.5]


def test_each_arm_of_the_last_window_has_series_and_no_other():
    engine = scenario.new_engine(scenario.declaration("observed"))
    drift_metrics = DriftMetrics(engine, scenario.declaration("observed"))
    loss = records.MeasureFigures(measure="log_loss", labels=4, total=2.0, squares=1.5)
    for version in (1, 2):
        difference = records.LossDifference(
            champion=9, is_paired=False, labels=4, champion_labels=7, mean=0.1, low=-0.1, high=0.3
        )
        arm = records.ArmFigures(
            arm="champion", version=version, predictions=5, labels=4, measures=[loss], failed=2,
            difference=difference,
        )  # fmt: skip
        report = records.DriftReport(
            report_id="r", model="observed", version=version, window_start_ms=0, window_end_ms=1,
            predictions=5, labels=4, arms=[arm],
        )  # fmt: skip
        drift_metrics.observe(DriftOutputs(drift=[report]))
        labels = {"arm": "champion", "version": str(version)}
        assert metric("arm_records", **labels, record="prediction") == 5
        assert metric("arm_records", **labels, record="label") == 4
        assert metric("arm_records", **labels, record="failed") == 2
        assert metric("arm_loss_difference", **labels, bound="low") == -0.1
        assert metric("arm_loss_difference", **labels, bound="running") is None
        assert metric("arm_measure", **labels, measure="log_loss") == 0.5
    assert metric("arm_measure", arm="champion", version="1", measure="log_loss") is None
    assert metric("arm_loss_difference", arm="champion", version="1", bound="low") is None
    assert metric("arm_records", arm="champion", version="1", record="label") is None


def test_errors_and_times_of_calls_of_an_arm_are_shown_beside_the_champions():
    def arm(name, version, failed, cells, **fields):
        rows = [10] * arm_comparison.BLOCKS
        sums = records.RequestSums(
            answered=rows, failed=[failed] * len(rows), timed=rows, call_cells=[10 * cells] * len(rows),
            call_cell_squares=160 * cells * cells,
        )  # fmt: skip
        return records.ArmFigures(arm=name, version=version, requests=sums, **fields)

    drift_metrics = DriftMetrics(
        scenario.new_engine(scenario.declaration("observed")), scenario.declaration("observed")
    )
    for arms in ([arm("champion", 1, 0, 40, is_champion=True), arm("new", 2, 10, 44)], []):
        report = records.DriftReport(
            report_id="r", model="observed", version=1, window_start_ms=0, window_end_ms=1, predictions=5,
            labels=4, arms=arms,
        )  # fmt: skip
        drift_metrics.observe(DriftOutputs(drift=[report]))
        new = {"arm": "new", "version": "2"}
        found = metric("arm_failure_difference", **new, bound="mean")
        assert (found, metric("arm_call_ratio", **new, bound="ratio")) == (
            (0.5, 2.0) if arms else (None, None)
        )
        assert metric("arm_call_ratio", arm="champion", version="1", bound="ratio") is None
