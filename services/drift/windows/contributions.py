"""Which bins of which features make the drift, weighted by what the model makes of them. Pure."""

import itertools
from collections.abc import Iterable, Sequence

from services.drift.binning.segment_counts import SegmentFeature
from services.drift.windows import report_bins
from streams.records import Bins, Contribution, FeatureDrift

SHOWN_MAX = 20
OF_ALARM_MAX = 3
PSI_MIN = 0.001
"""A bin that adds less is not told of."""
MISSING = "(missing)"


def ranked(
    features: Sequence[FeatureDrift],
    segments: Iterable[tuple[float, SegmentFeature]] = (),
    limit: int = SHOWN_MAX,
) -> list[Contribution]:
    """Return the bins with the largest weight of all features and segments, the largest first.

    Args:
        features: Of all rows.
        segments: Features within segments, each with the segment's share of all rows.
        limit: So many at most.
    """
    total = sum(feature.importance for feature in features if feature.importance is not None)
    found = []
    for feature in features:
        if feature.bins is not None:
            share = _share(feature.importance, total, len(features))
            found += _of_bins(feature.feature, feature.bins, feature.importance, share)
    for of_rows, part in segments:
        share = of_rows * _share(part.cells.importance, total, len(features))
        found += _of_part(part, share)
    found.sort(key=lambda each: (-each.weight, -each.psi, each.feature, each.bin, each.segment))
    return found[:limit]


def _share(importance: float | None, total: float, features: int) -> float:
    """Return which share of the model's reliance on its features one of them has."""
    if total <= 0 or importance is None:
        return 1 / features
    return importance / total


def of_part(part: SegmentFeature) -> list[Contribution]:
    """Return the bins that differ most of one feature, of all rows or in a segment, by its index alone."""
    return sorted(_of_part(part, 1.0), key=lambda each: (-each.psi, each.bin))[:OF_ALARM_MAX]


def _of_part(part: SegmentFeature, share: float) -> list[Contribution]:
    cells = part.cells
    return _of_bins(cells.name, report_bins.of(cells, part.reference), cells.importance, share, part.segment)


def _of_bins(
    feature: str, shown: Bins, importance: float | None, part: float, segment: str = ""
) -> list[Contribution]:
    rows = max(sum(shown.counts), 1)
    return [
        Contribution(
            feature=feature,
            bin=name,
            expected_share=expected,
            share=count / rows,
            psi=psi,
            importance=importance,
            weight=psi * part,
            segment=segment,
        )
        for name, expected, count, psi in zip(
            names(shown), shown.expected, shown.counts, shown.psi, strict=True
        )
        if psi >= PSI_MIN
    ]


def names(shown: Bins) -> list[str]:
    """Name all bins, the missing values last."""
    if shown.categories is not None:
        return [*shown.categories, MISSING]
    edges = [f"{edge:.4g}" for edge in shown.edges or []]
    if not edges:
        return ["any", MISSING]
    inner = [low if low == high else f"{low} to {high}" for low, high in itertools.pairwise(edges)]
    return [
        f"below {edges[0]}",
        *inner,
        f"above {edges[-1]}",
        MISSING,
    ]  # the last edge is just above the largest
