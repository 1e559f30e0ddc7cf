"""Error budgets from reports and from metrics, and the rules that are made of the declarations."""

import datetime as dt

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import ValidationError

from services.monitoring.error_budget import EventCount
from services.operations.slo import prometheus_rules, scraped_metrics
from services.runtime import metrics
from services.runtime.declaration import LATENCY_BOUNDS_MS
from tests.unit.drift import scenario
from tests.unit.monitoring.objectives import declaration


def test_bounds_of_latency_are_those_of_the_histogram():
    """Else the share within a bound could not be read off."""
    (family,) = metrics.PREDICTION_DURATION.labels("m", "rest").collect()
    bounds = [float(sample.labels["le"]) for sample in family.samples if sample.name.endswith("_bucket")]
    assert [bound * 1000 for bound in bounds[:-1]] == list(LATENCY_BOUNDS_MS)
    with pytest.raises(ValidationError, match="within_ms: must be one of 1, "):
        declaration(latency={"objective": 0.9, "within_ms": 200})


def test_metrics_of_scoring_are_counted():
    registry = CollectorRegistry()
    seconds = Histogram(
        scraped_metrics.DURATION, "", ["model", "channel"], registry=registry, buckets=(0.1, 0.25, 1)
    )
    for value in (0.05, 0.2, 0.25, 0.3):
        seconds.labels("m", "rest").observe(value)
        seconds.labels("m", "kafka").observe(2)
    for name, count in ((scraped_metrics.PREDICTIONS, 30), (scraped_metrics.UNANSWERED, 2)):
        Counter(name, "", ["model"], registry=registry).labels("m").inc(count)
    text = generate_latest(registry).decode()
    assert scraped_metrics.count(text, declaration(), "latency") == EventCount(3, 1)
    assert scraped_metrics.count(text, declaration(), "availability") == EventCount(30, 2)
    assert scraped_metrics.count("", declaration(), "availability") == EventCount()


def test_rules_ask_two_windows_and_slow_ones_for_what_is_judged_once_a_window():
    content = prometheus_rules.document({"m": declaration()})
    alerts = [rule for group in content["groups"] for rule in group["rules"] if "alert" in rule]
    by_slo: dict[str, list[str]] = {}
    for alert in alerts:
        by_slo.setdefault(alert["labels"]["slo"], []).append(alert["labels"]["burn"])
    fast = ["14.4x 1h", "6x 6h", "3x 1d", "1x 3d"]
    assert by_slo == {"latency": fast, "availability": fast, "accuracy": ["3x 7h", "1x 14h"]}
    recorded = {
        (rule["record"], rule["labels"]["slo"])
        for group in content["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    assert ("driftline:slo_errors:ratio_rate28d", "latency") in recorded
    assert ("driftline:slo_budget:left", "accuracy") in recorded


def test_a_model_without_objectives_has_no_rules():
    assert prometheus_rules.document({"m": scenario.declaration()}) == {"groups": []}


def test_made_text_is_the_same_each_time():
    made = {prometheus_rules.as_yaml(prometheus_rules.document({"m": declaration()})) for _ in range(2)}
    assert len(made) == 1
    assert dt.timedelta(days=28) == dt.timedelta(milliseconds=declaration().slo.latency.window_ms)  # type: ignore[union-attr]
    assert msgspec.json.encode(prometheus_rules.document({"m": declaration()}))
