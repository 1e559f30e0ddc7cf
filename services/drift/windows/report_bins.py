"""The bins that a report shows: few of them, each with its expected share and its count. Pure."""

from collections.abc import Sequence

import numpy as np

from services.drift.binning import statistics
from services.drift.binning.bin_counts import BinCounts
from services.drift.binning.statistics import Counts
from streams.records import Bins

BINS_MAX = 16
"""Maximum bins within the range of a number, and maximum categories by name, so that a chart stays
readable."""
NAME_CHARS_MAX = 80
"""Maximum length of a category's name in a report."""
OTHERS, NEW = "(others)", "(new)"
_SHARE_DIGITS = 6


def merged_bins(counted: BinCounts, reference: Counts, psi: Counts | None = None) -> Bins:
    """Return a window's counts in few bins, with the expected shares and each bin's part of the PSI.

    Args:
        counted: The feature's counts of the window.
        reference: The counts to compare with, in the same bins, e.g. mixed by season.
        psi: The contribution of each bin to the index, where it is known.
    """
    shares = reference / max(float(reference.sum()), 1.0)
    if psi is None:
        psi = np.zeros(len(reference))
        if reference.sum() and counted.counts.sum():
            psi = statistics.index_by_bin(reference, counted.counts)
    return _numeric(counted, shares, psi) if counted.numeric else _categorical(counted, shares, psi)


def _numeric(counted: BinCounts, shares: Counts, psi: Counts) -> Bins:
    """Merge the same number of neighbours within the range; the bins below and above it stay separate."""
    last = len(counted.edges)  # the bin above all edges; the bin of missing values follows
    step = max(1, -(-(last - 1) // BINS_MAX))
    starts = sorted({0, *range(1, last, step), last, last + 1})
    edges = [float(counted.edges[start - 1]) for start in starts[1:-1]]
    expected, counts, parts = (np.add.reduceat(values, starts) for values in (shares, counted.counts, psi))
    return _bins(expected, counts, parts, edges=edges)


def _categorical(counted: BinCounts, shares: Counts, psi: Counts) -> Bins:
    """Name the categories most frequent in either sample; other known, new and missing ones follow."""
    names = counted.binner.categories
    larger = np.maximum(shares, counted.counts / max(int(counted.counts.sum()), 1))[: len(names)]
    named = np.sort(np.argsort(-larger, kind="stable")[:BINS_MAX])

    def merge(values: Counts) -> Counts:
        rest = values[: len(names)].sum() - values[named].sum()
        return np.concatenate([values[named], [rest], values[len(names) :]])

    categories = [*(names[index][:NAME_CHARS_MAX] for index in named), OTHERS, NEW]
    return _bins(merge(shares), merge(counted.counts), merge(psi), categories=categories)


def _bins(
    shares: Counts,
    counts: Counts,
    psi: Counts,
    edges: list[float] | None = None,
    categories: Sequence[str] | None = None,
) -> Bins:
    return Bins(
        edges=edges,
        categories=None if categories is None else list(categories),
        expected=[round(share, _SHARE_DIGITS) for share in shares.tolist()],
        counts=counts.tolist(),
        psi=[round(part, _SHARE_DIGITS) for part in psi.tolist()],
    )
