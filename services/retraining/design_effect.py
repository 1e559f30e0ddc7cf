"""The design effect: how much more sums of ranks vary because values close in time are alike. Pure."""

import numpy as np
import numpy.typing as npt
from scipy import special

BLOCKS_MIN = 8
"""Minimum blocks for an estimate; with fewer, values count as independent."""
HALVINGS = 7
"""Number of block lengths, each half the one before: from three days down to about an hour."""
_UNIFORM_VARIANCE = 1 / 12
"""Variance of uniform ranks."""
_SQUARES_VARIANCE = 1 / 180
"""Variance of the squares of uniform ranks about their mean."""

Ranks = npt.NDArray[np.float64]


def middle_ranks(values: npt.NDArray[np.generic]) -> Ranks:
    """Return the rank of each value among all, ``(n_rows,)`` between 0 and 1; ties get their mean rank."""
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    return middles(counts)[groups]


def middles(counts: npt.NDArray[np.int64]) -> Ranks:
    """Return the mean rank of each group of ties, between 0 and 1, for the ordered counts of the groups."""
    ranks: Ranks = (np.cumsum(counts) - counts / 2) / max(int(counts.sum()), 1)
    return ranks


class Blocks:
    """Rows divided by time into blocks of several lengths, once for all features."""

    def __init__(self, times_ms: npt.NDArray[np.int64], block_ms: int) -> None:
        """Divide rows.

        Args:
            times_ms: Event times, ``(n_rows,)``.
            block_ms: Values that are this far apart count as independent.
        """
        span_ms = int(times_ms.max() - times_ms.min()) if len(times_ms) else 0
        longest_ms = min(block_ms, span_ms // BLOCKS_MIN)
        lengths_ms = [longest_ms >> halved for halved in range(HALVINGS) if longest_ms >> halved]
        self._divided = [
            np.unique(times_ms // length_ms, return_inverse=True, return_counts=True)[1:]
            for length_ms in lengths_ms
        ]

    def design_effect(self, ranks: Ranks) -> float:
        """Return an upper bound of the variance of sums, relative to independent values; at least 1.

        Args:
            ranks: Ranks among the reference, mean ranks for ties, ``(n_rows,)``. If ties were broken at
                random, ranks would have the uniform variance; the difference to it counts as independent.

        This is the maximum over the block lengths: the given one, or an eighth of the whole time if that is
        shorter, and its halves, because within a day the hours even out, within an hour they do not. It is
        also the maximum over sums of ranks and sums of their squares.
        """
        return max([1.0, *(_of_blocks(ranks, block_of, rows) for block_of, rows in self._divided)])


def _of_blocks(ranks: Ranks, block_of: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> float:
    """Return the design effect for blocks of one length.

    Args:
        ranks: Ranks, ``(n_rows,)``.
        block_of: The block of each row, ``(n_rows,)``.
        rows: The number of rows of each block, ``(n_blocks,)``.

    The mean over B blocks of ``sum^2 / (n variance)`` estimates the design effect D. For normal sums it is D
    times a chi-square variable with B - 1 degrees of freedom, divided by B - 1. Dividing by the lower 5 %
    point of that distribution gives an upper bound, which is too low for one reference in twenty.
    """
    blocks = len(rows)
    if blocks < BLOCKS_MIN:
        return 1.0
    spread = float(special.chdtri(blocks - 1, 0.95)) / (blocks - 1)
    centred = ranks - 0.5
    found = []
    for values, variance in ((centred, _UNIFORM_VARIANCE), (centred**2, _SQUARES_VARIANCE)):
        deviations = values - values.mean()
        sums = np.bincount(block_of, weights=deviations, minlength=blocks)
        lacking = max(variance - float((deviations**2).mean()), 0.0)
        found.append((float((sums**2 / rows).sum()) / (blocks - 1) + lacking) / variance)
    return max(found) / spread
