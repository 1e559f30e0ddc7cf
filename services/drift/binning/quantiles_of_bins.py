"""Quantiles of numbers from their counts in the bins of the reference. Pure.

A quantile is interpolated within its bin, so it is off by at most the width of the bin; a bin holds about
1/64 of the reference. A bin with more than `SPREAD_SHARE_MAX` of the reference holds mostly one value that is
frequent, its lower edge, which is then the quantile. Beyond the range of the reference, a quantile is off by
at most a sixteenth of its distance from the range, see `distance_cells`.
"""

from collections.abc import Sequence

import numpy as np

from services.drift.binning.distance_cells import Tail
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


def reach_tails(counts: Counts, levels: Sequence[float] = LEVELS) -> bool:
    """Tell whether a quantile is below all edges or above: only then it depends on the tails."""
    total = int(counts.sum())
    return bool(counts[0] >= levels[0] * total or total - counts[-1] < levels[-1] * total)


def quantiles(
    counts: Counts,
    edges: Edges,
    reference: Counts,
    tails: tuple[Tail | None, Tail | None] = (None, None),
    levels: Sequence[float] = LEVELS,
) -> list[float]:
    """Return the quantiles of a sample; empty without numbers or edges.

    Args:
        counts: Values by bin, without missing values ``(n_edges + 1,)``.
        edges: Between the bins, rising.
        reference: Counts of the reference in the same bins.
        tails: The numbers below all edges, and those above; None: they are taken to be at the outermost edge.
        levels: Above 0, up to 1.
    """
    if not counts.sum() or not len(edges):
        return []
    below, above = tails[0] or _at(edges[0], counts[0]), tails[1] or _at(edges[-1], counts[-1])
    lower = np.concatenate([below.lower, edges[:-1], above.lower])
    upper = np.concatenate([below.upper, edges[1:], above.upper])
    counts = np.concatenate([below.counts, counts[1:-1], above.counts])
    frequent = np.zeros(len(counts), dtype=np.bool_)
    inside = slice(len(below.counts), len(counts) - len(above.counts))
    frequent[inside] = reference[1:-1] > SPREAD_SHARE_MAX * max(float(reference.sum()), 1.0)
    sums = np.cumsum(counts)
    targets = np.multiply(levels, int(sums[-1]))
    at = np.searchsorted(sums, targets)
    within = counts[at]
    shares = np.where(frequent[at], 0.0, (targets - sums[at] + within) / within)
    found: list[float] = (lower[at] + shares * (upper[at] - lower[at])).tolist()
    return found


def _at(edge: float, count: int) -> Tail:
    """Return numbers that are all at one edge."""
    return Tail(np.array([edge]), np.array([edge]), np.array([count], dtype=np.int64))
