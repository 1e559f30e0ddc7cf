"""What a report shows of a distribution: few bins, each with the share to expect and the count. Pure."""

from collections.abc import Sequence

import numpy as np

from services.drift.binning import statistics
from services.drift.binning.bin_counts import BinCounts
from services.drift.binning.statistics import Counts
from streams.records import Bins

BINS_MAX = 16
"""Of a number within its range, and of categories by name: what a reader takes in at a glance."""
NAME_CHARS_MAX = 80
OTHERS, NEW = "(others)", "(new)"
_SHARE_DIGITS = 6


def of(cells: BinCounts, reference: Counts) -> Bins:
    """Return the counts of a window beside those that it was compared with.

    Args:
        cells: The feature's, with the counts of the window.
        reference: Counts over the same cells, the window's seasons mixed in.
    """
    shares = reference / max(float(reference.sum()), 1.0)
    parts = np.zeros(len(reference))
    if reference.sum() and cells.counts.sum():
        parts = statistics.index_by_cell(reference, cells.counts)
    return _of_numbers(cells, shares, parts) if cells.numeric else _of_categories(cells, shares, parts)


def _of_numbers(cells: BinCounts, shares: Counts, parts: Counts) -> Bins:
    """Join neighbours within the range, equally many; what is below and above it stays apart."""
    last = len(cells.edges)  # the cell above all edges; the missing ones follow
    step = max(1, -(-(last - 1) // BINS_MAX))
    starts = sorted({0, *range(1, last, step), last, last + 1})
    edges = [float(cells.edges[start - 1]) for start in starts[1:-1]]
    known, seen, added = (np.add.reduceat(values, starts) for values in (shares, cells.counts, parts))
    return _bins(known, seen, added, edges=edges)


def _of_categories(cells: BinCounts, shares: Counts, parts: Counts) -> Bins:
    """Name the most frequent ones of either side; the other known ones, the new and the missing follow."""
    names = cells.places.categories
    larger = np.maximum(shares, cells.counts / max(int(cells.counts.sum()), 1))[: len(names)]
    named = np.sort(np.argsort(-larger, kind="stable")[:BINS_MAX])

    def laid_out(values: Counts) -> Counts:
        rest = values[: len(names)].sum() - values[named].sum()
        return np.concatenate([values[named], [rest], values[len(names) :]])

    shown = [*(names[cell][:NAME_CHARS_MAX] for cell in named), OTHERS, NEW]
    return _bins(laid_out(shares), laid_out(cells.counts), laid_out(parts), categories=shown)


def _bins(
    shares: Counts,
    counts: Counts,
    parts: Counts,
    edges: list[float] | None = None,
    categories: Sequence[str] | None = None,
) -> Bins:
    return Bins(
        edges=edges,
        categories=None if categories is None else list(categories),
        expected=[round(share, _SHARE_DIGITS) for share in shares.tolist()],
        counts=counts.tolist(),
        psi=[round(part, _SHARE_DIGITS) for part in parts.tolist()],
    )
