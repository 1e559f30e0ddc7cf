"""The messages of drift alarms: one plain sentence each, with the numbers and their units. Pure.

A message begins in lower case and has no full stop: reports and notifications put it into sentences.
"""

import datetime as dt
from collections.abc import Sequence

from services.drift.detectors.e_detector import RANK_SHIFT_MIN
from services.monitoring.loss_comparison import LossComparison
from services.monitoring.value_kinds import ABOVE, BELOW, MISSING, NEW, RARE
from services.runtime.declaration import QualityBounds
from streams.records import Contribution, FeatureQuality

CATEGORIES_NAMED_MAX = 5
"""New categories named in one message."""


def feature_text(
    subject: str, segment: str, rank: float | None, contributions: Sequence[Contribution]
) -> str:
    """Say how the values of a feature or the scores changed: by their mean rank, or by the largest bin.

    Args:
        subject: The feature, or ``score``.
        segment: ``origin=EWR``, or empty for all rows.
        rank: Mean rank of recent values, 0 to 1; None if the detector does not tell.
        contributions: The bins of this window that differ from the reference, the largest difference first.
    """
    return (
        f"{subject}{_where(segment)}: {_change_text(segment, 0.5 if rank is None else rank, contributions)}"
    )


def _change_text(segment: str, rank: float, contributions: Sequence[Contribution]) -> str:
    if abs(rank - 0.5) >= RANK_SHIFT_MIN or not contributions:
        known = "among earlier values of this segment" if segment else "in the reference"
        return f"recent values have mean rank {rank:.2f} {known} (0.50 = no change)"
    largest = contributions[0]
    return (
        "the distribution changed in shape, not in level; largest change in this window: "
        f"{largest.bin} with {largest.share:.1%} of the values ({largest.expected_share:.1%} expected)"
    )


_KINDS = {
    MISSING: "missing",
    NEW: "values that the reference does not contain",
    RARE: "categories that are rare in the reference",
    BELOW: "below the range of the reference",
    ABOVE: "above the range of the reference",
}


def share_text(subject: str, segment: str, kind: str, share: float, share_before: float) -> str:
    """Say that one of the `services.monitoring.value_kinds` became frequent."""
    return (
        f"{subject}{_where(segment)}: {share:.1%} of recent values are {_KINDS[kind]} "
        f"({share_before:.1%} in the reference)"
    )


def category_text(subject: str, segment: str, share: float, categories: Sequence[str]) -> str:
    """Say which share of a window's values are categories that the reference does not contain."""
    named = ", ".join(categories[:CATEGORIES_NAMED_MAX])
    more = " and more" if len(categories) > CATEGORIES_NAMED_MAX else ""
    return (
        f"{subject}{_where(segment)}: {share:.1%} of the values in this window are categories that "
        f"the reference does not contain: {named}{more}"
    )


def relation_text(subject: str, correlation: float, correlation_before: float) -> str:
    """Say how the rank correlation of two features, ``a and b``, changed."""
    recent, before = f"{correlation:.2f} in recent rows", f"{correlation_before:.2f} before"
    return f"{subject}: their rank correlation is {recent} ({before})"


def quality_text(quality: FeatureQuality, bounds: QualityBounds) -> str:
    """Say how many values of a window break which declared bound, and what is allowed."""
    counts = [
        (quality.nulls, "null"),
        (quality.wrong_type, "of a type other than declared"),
        (quality.below, f"below the minimum {bounds.min}"),
        (quality.above, f"above the maximum {bounds.max}"),
        (quality.not_allowed, "not among the allowed values"),
    ]
    found = ", ".join(f"{count} {'is' if count == 1 else 'are'} {what}" for count, what in counts if count)
    nulls = "" if quality.null_share_max is None else f"{quality.null_share_max:.1%} null and "
    return (
        f"{quality.feature}: this window has {quality.values} values: {found} "
        f"(allowed: at most {nulls}{quality.invalid_share_max:.1%} invalid)"
    )


def harm_text(comparison: LossComparison, low: float, since_ms: int, *, is_early: bool) -> str:
    """Say how the mean loss since a time compares with its limit, and its lower end.

    Args:
        comparison: The mean loss, and its limit.
        low: The mean loss is at least this, with a confidence of 95 %.
        since_ms: Start of the first cohort.
        is_early: Whether many of the labels are still missing.
    """
    of = "labels known early" if is_early else "mature cohorts"
    subject = f"the mean {_words(comparison.measure)} of {of} since {_day(since_ms)}"
    return comparison.phrase(subject, low=low)


def estimated_text(comparison: LossComparison, since_ms: int, error: float, outside: float) -> str:
    """Say how the mean loss estimated before the labels compares with its limit.

    Args:
        comparison: The estimated mean loss, and its limit.
        since_ms: Start of the first window that the estimate covers.
        error: The largest recent error of such estimates.
        outside: Share of the scores in ranges of scores without known results.
    """
    subject = f"the mean {_words(comparison.measure)} estimated since {_day(since_ms)}"
    text = f"{comparison.phrase(subject)}; recent estimates were off by at most {error:.3f}"
    if not outside:
        return text
    return f"{text}; {outside:.1%} of the scores are in ranges without known results"


def loss_change_text(detector: str) -> str:
    """Say that a detector of river saw the losses rise; it does not tell by how much."""
    return f"{detector}: the losses of the champion rose"


def _where(segment: str) -> str:
    return f" where {segment}" if segment else ""


def _day(time_ms: int) -> str:
    """Return a day in UTC: ``3 Feb 2013``."""
    moment = dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC)
    return f"{moment.day} {moment:%b %Y}"


def _words(measure: str) -> str:
    return measure.replace("_", " ")
