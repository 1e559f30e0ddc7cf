from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from services.monitoring.error_budget import EventCount
from services.operations.slo import scraped_metrics
from tests.unit.monitoring.objectives import declaration


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


def test_metrics_of_another_model_do_not_count():
    registry = CollectorRegistry()
    Counter(scraped_metrics.PREDICTIONS, "", ["model"], registry=registry).labels("other").inc(5)
    text = generate_latest(registry).decode()
    assert scraped_metrics.count(text, declaration(), "availability") == EventCount(0, 0)
