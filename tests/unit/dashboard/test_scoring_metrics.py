import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.dashboard import scoring_metrics
from services.dashboard.scoring_metrics import Scrape, parse, quantile, summarize


class Process:
    """The metrics of a scoring process, with the names and labels of services/runtime/metrics.py."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.predictions = Counter("driftline_predictions", "x", ["model", "outcome"], registry=registry)
        self.duration = Histogram(
            "driftline_prediction_duration_seconds",
            "x",
            ["model", "channel"],
            buckets=(0.01, 0.1, 1),
            registry=registry,
        )
        self.lag = Gauge(
            "driftline_consumer_lag_records", "x", ["group", "topic", "partition"], registry=registry
        )
        self.age = Gauge("driftline_event_age_seconds", "x", ["model"], registry=registry)
        self.waiting = Gauge("driftline_requests_waiting", "x", ["model"], registry=registry)

    def scrape(self, at_seconds: float = 0.0, wall_ms: int = 0, previous: Scrape | None = None) -> Scrape:
        return parse(generate_latest(self.registry).decode(), at_seconds, wall_ms, previous)


def test_names_are_the_declared_metrics():
    from services.runtime import metrics

    declared = (
        metrics.PREDICTIONS,
        metrics.PREDICTION_DURATION,
        metrics.CONSUMER_LAG,
        metrics.EVENT_AGE,
        metrics.REQUESTS_WAITING,
    )
    assert [family.name for metric in declared for family in metric.describe()] == [
        "driftline_predictions",
        "driftline_prediction_duration_seconds",
        "driftline_consumer_lag_records",
        "driftline_event_age_seconds",
        "driftline_requests_waiting",
    ]


def test_counts_are_summed_over_outcomes_channels_and_partitions():
    process = Process()
    process.predictions.labels("m", "scored").inc(10)
    process.predictions.labels("m", "collected").inc(5)
    process.duration.labels("m", "kafka").observe(0.05)
    process.duration.labels("m", "http").observe(0.5)
    process.lag.labels("driftline.scoring.m", "t", "0").set(3)
    process.lag.labels("driftline.scoring.m", "t", "1").set(4)
    process.lag.labels("driftline.features", "t", "0").set(100)
    scrape = process.scrape()
    assert scrape.predictions == {"m": 15}
    assert scrape.buckets["m"] == {0.01: 0, 0.1: 1, 1: 2, math.inf: 2}
    assert scrape.lag_records == 7


def test_requests_that_wait_for_their_features_are_read_by_model():
    process = Process()
    process.waiting.labels("m").set(489)
    process.waiting.labels("other").set(0)
    assert process.scrape().waiting == {"m": 489}


def test_rate_is_over_the_latest_seconds_only():
    process = Process()
    scrapes = []
    for second in range(20):
        process.predictions.labels("m", "scored").inc(100 if second < 12 else 300)
        scrapes.append(process.scrape(float(second)))
    scored = summarize(scrapes)["m"]
    assert scored.rate_per_second == pytest.approx(300)
    assert scored.rate_history[:3] == [100, 100, 100]


def test_restarted_counter_counts_from_zero():
    before, after = Process(), Process()
    before.predictions.labels("m", "scored").inc(1000)
    after.predictions.labels("m", "scored").inc(50)
    assert summarize([before.scrape(0.0), after.scrape(1.0)])["m"].rate_per_second == 50


def test_first_reading_has_no_rate_and_no_latency():
    process = Process()
    process.predictions.labels("m", "scored").inc()
    process.duration.labels("m", "kafka").observe(0.05)
    scored = summarize([process.scrape()])["m"]
    assert (scored.predictions_total, scored.rate_per_second, scored.p50_seconds) == (1, None, None)


def test_latency_is_of_the_observations_between_the_readings():
    process = Process()
    process.predictions.labels("m", "scored").inc()
    process.duration.labels("m", "kafka").observe(0.9)
    first = process.scrape(0.0)
    for _ in range(100):
        process.duration.labels("m", "kafka").observe(0.05)
    scored = summarize([first, process.scrape(1.0)])["m"]
    assert scored.p50_seconds == pytest.approx(0.055)
    assert scored.p99_seconds == pytest.approx(0.0991)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ({}, 0.5, None),
        ({0.1: 0.0, math.inf: 0.0}, 0.5, None),
        ({0.1: 10.0, math.inf: 10.0}, 0.5, 0.05),
        ({0.1: 0.0, 0.2: 10.0, math.inf: 10.0}, 1.0, 0.2),
        ({0.1: 5.0, math.inf: 10.0}, 0.99, 0.1),
    ],
)
def test_quantile_is_linear_within_a_bucket_and_stays_below_the_last_bound(
    counts: dict[float, float], share: float, expected: float | None
):
    assert quantile(counts, share) == pytest.approx(expected)


def test_event_time_moves_only_when_the_age_does():
    process = Process()
    process.age.labels("m").set(100)
    first = process.scrape(0.0, 1_000_000)
    assert first.event_times_ms == {}
    process.age.labels("m").set(40)
    second = process.scrape(1.0, 1_001_000, first)
    assert second.event_times_ms == {"m": 961_000}
    assert process.scrape(2.0, 1_002_000, second).event_times_ms == {"m": 961_000}


def test_metrics_of_another_process_are_no_error():
    assert summarize([parse("python_info 1\n", 0.0, 0)]) == {}
    assert summarize([]) == {}


def test_unreadable_metrics_are_told():
    with pytest.raises(scoring_metrics.MetricsError, match="cannot read the metrics"):
        parse('driftline_predictions_total{model="m" 1\n', 0.0, 0)
    with pytest.raises(scoring_metrics.MetricsError, match="characters"):
        parse("x" * (scoring_metrics.TEXT_LENGTH_MAX + 1), 0.0, 0)
