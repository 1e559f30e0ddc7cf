"""Which bins of which features contribute most to drift, weighted by the features' importance. Pure."""

import itertools
from collections.abc import Iterable, Sequence

from services.drift.binning.segment_counts import SegmentFeature
from services.drift.windows import report_bins
from streams.records import Bins, Contribution, FeatureDrift

SHOWN_MAX = 20
"""Maximum contributions in a report."""
OF_ALARM_MAX = 3
"""Maximum contributions in an alarm."""
PSI_MIN = 0.001
"""Bins that contribute less to the PSI are left out."""
MISSING = "(missing)"


def ranked(
    features: Sequence[FeatureDrift],
    segments: Iterable[tuple[float, SegmentFeature]] = (),
    limit: int = SHOWN_MAX,
) -> list[Contribution]:
    """Return the bins with the largest weight among all features and segments, the largest first.

    Args:
        features: The features over all rows.
        segments: The features within segments, each with the segment's share of all rows.
        limit: Maximum number of bins.
    """
    total = sum(feature.importance for feature in features if feature.importance is not None)
    contributions = []
    for feature in features:
        if feature.bins is not None:
            weight = _importance_share(feature.importance, total, len(features))
            contributions += _of_bins(feature.feature, feature.bins, feature.importance, weight)
    for row_share, inside in segments:
        weight = row_share * _importance_share(inside.counted.importance, total, len(features))
        contributions += _of_feature(inside, weight)
    contributions.sort(key=lambda each: (-each.weight, -each.psi, each.feature, each.bin, each.segment))
    return contributions[:limit]


def of_feature(inside: SegmentFeature) -> list[Contribution]:
    """Return the bins of one feature with the largest PSI, over all rows or within a segment."""
    return sorted(_of_feature(inside, 1.0), key=lambda each: (-each.psi, each.bin))[:OF_ALARM_MAX]


def bin_names(bins: Bins) -> list[str]:
    """Return the names of all bins; the bin of missing values is the last.

    >>> bin_names(Bins(edges=[0.0, 1.5]))
    ['below 0', '0 to 1.5', 'above 1.5', '(missing)']
    """
    if bins.categories is not None:
        return [*bins.categories, MISSING]
    edges = [f"{edge:.4g}" for edge in bins.edges or []]
    if not edges:
        return ["any", MISSING]
    inner = [low if low == high else f"{low} to {high}" for low, high in itertools.pairwise(edges)]
    return [
        f"below {edges[0]}",
        *inner,
        f"above {edges[-1]}",
        MISSING,
    ]  # the last edge is just above the largest value of the reference


def _importance_share(importance: float | None, total: float, features: int) -> float:
    """Return a feature's share of all importances; an equal share where importances are unknown."""
    if total <= 0 or importance is None:
        return 1 / features
    return importance / total


def _of_feature(inside: SegmentFeature, weight: float) -> list[Contribution]:
    counted = inside.counted
    bins = report_bins.merged_bins(counted, inside.reference)
    return _of_bins(counted.name, bins, counted.importance, weight, inside.segment)


def _of_bins(
    feature: str, bins: Bins, importance: float | None, weight: float, segment: str = ""
) -> list[Contribution]:
    rows = max(sum(bins.counts), 1)
    return [
        Contribution(
            feature=feature,
            bin=name,
            expected_share=expected,
            share=count / rows,
            psi=psi,
            importance=importance,
            weight=psi * weight,
            segment=segment,
        )
        for name, expected, count, psi in zip(
            bin_names(bins), bins.expected, bins.counts, bins.psi, strict=True
        )
        if psi >= PSI_MIN
    ]
