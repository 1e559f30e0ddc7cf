"""What the metrics of scoring count, and the bounds of the histogram of latencies."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import ValidationError

from services.monitoring.error_budget import EventCount
from services.operations.slo import scraped_metrics
from services.runtime import metrics
from services.runtime.declaration import LATENCY_BOUNDS_MS
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
