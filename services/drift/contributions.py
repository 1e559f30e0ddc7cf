"""Which bins of which features make the drift, weighted by what the model makes of them. Pure."""

import itertools
from collections.abc import Sequence

from services.drift import bins
from services.drift.cells import FeatureCells
from services.drift.statistics import Counts
from streams.records import Bins, Contribution, FeatureDrift

SHOWN_MAX = 20
OF_ALARM_MAX = 3
PSI_MIN = 0.001
"""A bin that adds less is not told of."""
MISSING = "(missing)"


def ranked(features: Sequence[FeatureDrift], limit: int = SHOWN_MAX) -> list[Contribution]:
    """Return the bins with the largest weight of all features, the largest first."""
    known = [feature.importance for feature in features if feature.importance is not None]
    total = sum(known)
    found = [
        contribution
        for feature in features
        if feature.bins is not None
        for contribution in _of_bins(
            feature.feature,
            feature.bins,
            feature.importance,
            _part(feature.importance, total, len(features)),
        )
    ]
    found.sort(key=lambda each: (-each.weight, -each.psi, each.feature, each.bin))
    return found[:limit]


def _part(importance: float | None, total: float, features: int) -> float:
    """Return which share of the model's reliance on its features one of them has."""
    if total <= 0 or importance is None:
        return 1 / features
    return importance / total


def of_counts(cells: FeatureCells, reference: Counts) -> list[Contribution]:
    """Return the bins that differ most of one feature, by its index alone."""
    found = _of_bins(cells.name, bins.of(cells, reference), cells.importance, 1.0)
    return sorted(found, key=lambda each: (-each.psi, each.bin))[:OF_ALARM_MAX]


def _of_bins(feature: str, shown: Bins, importance: float | None, part: float) -> list[Contribution]:
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
