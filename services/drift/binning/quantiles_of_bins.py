"""Quantiles of numbers from their counts in the bins of the reference. Pure.

A quantile is interpolated within its bin, so it is off by at most the width of the bin; a bin holds about
1/64 of the reference. A bin with more than `SPREAD_SHARE_MAX` of the reference holds mostly one value that is
frequent, its lower edge, which is then the quantile. Beyond the range of the reference there is one bin on
each side, up to the most extreme value: there a quantile is coarse.
"""

from collections.abc import Sequence

import numpy as np

from services.drift.binning.statistics import Counts, Edges

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
SPREAD_SHARE_MAX = 2 / 64
"""Maximum share of the reference in a bin within which numbers are taken to be spread evenly."""


def share_below(counts: Counts, edges: Edges, value: float) -> float:
    """Return the share of a sample below a value, interpolated within its bin; 0 without numbers."""
    total = float(counts.sum())
    if not total or not len(edges):
        return 0.0
    below = np.cumsum(counts)[:-1] / total
    return float(np.interp(value, edges, below))


def quantiles(
    counts: Counts,
    edges: Edges,
    reference: Counts,
    bounds: tuple[float | None, float | None] = (None, None),
    levels: Sequence[float] = LEVELS,
) -> list[float]:
    """Return the quantiles of a sample; empty without numbers or edges.

    Args:
        counts: In the bins, without missing values ``(n_edges + 1,)``.
        edges: Between the bins, rising.
        reference: Counts of the reference in the same bins.
        bounds: The least number below all edges, and the largest above; None: the outermost edge.
        levels: Above 0, up to 1.
    """
    total = int(counts.sum())
    if not total or not len(edges):
        return []
    low, high = (edge if bound is None else bound for edge, bound in zip(edges[[0, -1]], bounds, strict=True))
    lower = np.concatenate([[low], edges])
    upper = np.concatenate([edges, [high]])
    frequent = reference > SPREAD_SHARE_MAX * max(float(reference.sum()), 1.0)
    frequent[[0, -1]] = False
    below = np.cumsum(counts)
    targets = np.multiply(levels, total)
    at = np.searchsorted(below, targets)
    within = counts[at]
    shares = np.where(frequent[at], 0.0, (targets - below[at] + within) / within)
    starts = lower[at]
    found: list[float] = (starts + shares * (upper[at] - starts)).tolist()
    return found
