"""Rate, latency and lag of scoring, from its Prometheus metrics. Pure: text and time are arguments."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import msgspec
from prometheus_client.parser import text_string_to_metric_families

RATE_SECONDS = 5.0
LATENCY_SECONDS = 30.0
HISTORY_SCRAPES_MAX = 90
"""Maximum scrapes kept, one per second: the sparkline shows 90 s, and both spans above are shorter."""

TEXT_LENGTH_MAX = 4 << 20

_PREDICTIONS = "driftline_predictions_total"
_DURATION = "driftline_prediction_duration_seconds_bucket"
_LAG = "driftline_consumer_lag_records"
_EVENT_AGE = "driftline_event_age_seconds"
_WAITING = "driftline_requests_waiting"
_WANTED = (_PREDICTIONS, _DURATION, _LAG, _EVENT_AGE, _WAITING)

Buckets = Mapping[float, float]
"""Cumulative counts by upper bound in seconds."""


class MetricsError(ValueError):
    """The scoring process's answer is not in Prometheus' text format."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scrape:
    """One reading of the metrics, by model; ``at_seconds`` is of a monotonic clock."""

    at_seconds: float
    predictions: Mapping[str, float]
    buckets: Mapping[str, Buckets]
    event_ages_seconds: Mapping[str, float]
    event_times_ms: Mapping[str, int]
    """Event time of the newest answered request, if it changed between two scrapes."""
    lag_records: int | None
    waiting: Mapping[str, int]
    """Requests that wait for their features, by model; without models of which none waits."""


class ScoringPace(msgspec.Struct, kw_only=True, frozen=True):
    """Rate and latency of one model."""

    predictions_total: int
    event_time_ms: int | None
    """Event time of the newest answered request; null until one was answered between two scrapes."""
    rate_per_second: float | None
    """Over the last 5 seconds; null until there are two scrapes."""
    rate_history: list[float]
    """One value per second, the newest last."""
    p50_seconds: float | None
    p99_seconds: float | None
    """Over the last 30 seconds; null if nothing was answered in that time."""


def parse(text: str, at_seconds: float, wall_ms: int, previous: Scrape | None = None) -> Scrape:
    """Read the metrics that the page shows; raise `MetricsError` if the text cannot be read.

    The metric is the age of the event at the time of its answer, and does not say when that was. An event
    time is therefore computed only if the age has changed since the previous scrape, about a second ago.
    Otherwise the earlier event time is kept; it would else advance with the wall clock.
    """
    if len(text) > TEXT_LENGTH_MAX:
        raise MetricsError(f"the metrics have {len(text)} characters, more than {TEXT_LENGTH_MAX}")
    lines = [line for line in text.splitlines() if line.startswith(_WANTED)]
    predictions: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    ages: dict[str, float] = {}
    lags: list[float] = []
    waiting: dict[str, int] = {}
    try:
        families = list(text_string_to_metric_families("\n".join(lines) + "\n"))
    except (ValueError, KeyError, IndexError) as error:
        raise MetricsError(f"cannot read the metrics: {error}") from error
    for sample in itertools.chain.from_iterable(family.samples for family in families):
        model = sample.labels.get("model", "")
        if sample.name == _PREDICTIONS:
            predictions[model] = predictions.get(model, 0.0) + sample.value
        elif sample.name == _DURATION:
            bound = float(sample.labels["le"])
            counts = buckets.setdefault(model, {})
            counts[bound] = counts.get(bound, 0.0) + sample.value
        elif sample.name == _EVENT_AGE:
            ages[model] = sample.value
        elif sample.name == _WAITING and sample.value > 0:
            waiting[model] = round(sample.value)
        elif sample.name == _LAG and sample.labels.get("group", "").startswith("driftline.scoring"):
            lags.append(sample.value)
    return Scrape(
        at_seconds=at_seconds,
        predictions=predictions,
        buckets=buckets,
        event_ages_seconds=ages,
        event_times_ms=_event_times(ages, wall_ms, previous),
        lag_records=round(sum(lags)) if lags else None,
        waiting=waiting,
    )


def summarize(history: Sequence[Scrape]) -> dict[str, ScoringPace]:
    """Return rate and latency of each model from scrapes in order of time."""
    if not history:
        return {}
    return {model: _scored(model, history) for model in history[-1].predictions}


def quantile(counts: Buckets, share: float) -> float | None:
    """Estimate a quantile from cumulative buckets, linear within a bucket (as Prometheus does).

    Above the last finite bound, that bound is returned. None without observations.

    >>> quantile({0.1: 50.0, 0.2: 100.0, math.inf: 100.0}, 0.75)
    0.15000000000000002
    """
    bounds = sorted(counts)
    if not bounds or counts[bounds[-1]] <= 0:
        return None
    rank = share * counts[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= rank and counts[bound] > below:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (counts[bound] - below)
        lower, below = (lower if math.isinf(bound) else bound), counts[bound]
    return lower


def _event_times(ages: Mapping[str, float], wall_ms: int, previous: Scrape | None) -> dict[str, int]:
    if previous is None:
        return {}
    times = dict(previous.event_times_ms)
    for model, age in ages.items():
        if age != previous.event_ages_seconds.get(model, age):
            times[model] = wall_ms - round(age * 1000)
    return times


def _scored(model: str, history: Sequence[Scrape]) -> ScoringPace:
    recent = _latest(history, LATENCY_SECONDS)
    counts = _bucket_increments(model, recent)
    pairs = list(itertools.pairwise(history))
    return ScoringPace(
        predictions_total=round(history[-1].predictions[model]),
        event_time_ms=history[-1].event_times_ms.get(model),
        rate_per_second=_rate(model, _latest(history, RATE_SECONDS)),
        rate_history=[round(rate, 1) for pair in pairs if (rate := _rate(model, pair)) is not None],
        p50_seconds=quantile(counts, 0.5),
        p99_seconds=quantile(counts, 0.99),
    )


def _latest(history: Sequence[Scrape], seconds: float) -> Sequence[Scrape]:
    start = history[-1].at_seconds - seconds - 0.5  # scrapes come about, not exactly, once a second
    return [scrape for scrape in history if scrape.at_seconds >= start]


def _rate(model: str, history: Sequence[Scrape]) -> float | None:
    seconds = history[-1].at_seconds - history[0].at_seconds
    if seconds <= 0:
        return None
    totals = [scrape.predictions.get(model, 0.0) for scrape in history]
    return sum(_increment(*pair) for pair in itertools.pairwise(totals)) / seconds


def _bucket_increments(model: str, history: Sequence[Scrape]) -> dict[float, float]:
    increments: dict[float, float] = {}
    for before, after in itertools.pairwise(history):
        known = before.buckets.get(model, {})
        for bound, count in after.buckets.get(model, {}).items():
            increments[bound] = increments.get(bound, 0.0) + _increment(known.get(bound, 0.0), count)
    return increments


def _increment(before: float, after: float) -> float:
    """Return the increase of a counter; a counter that became smaller was restarted from 0."""
    return after - before if after >= before else after
