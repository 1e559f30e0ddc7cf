"""How alike the values of one block of time are: what one storm does to sums of ranks. Pure."""

import numpy as np
import numpy.typing as npt
from scipy import special

BLOCKS_MIN = 8
"""Fewer blocks say nothing; values then count as independent."""
HALVINGS = 7
"""Lengths of blocks looked at: from three days down to an hour."""
_UNIFORM_VARIANCE = 1 / 12
_SQUARES_VARIANCE = 1 / 180
"""Of the squares of uniform ranks about their middle."""

Ranks = npt.NDArray[np.float64]


def middle_ranks(values: npt.NDArray[np.generic]) -> Ranks:
    """Return the rank of each value among all, ``(n_rows,)`` between 0 and 1, ties in the middle."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return middles(counts)[places]


def middles(counts: npt.NDArray[np.int64]) -> Ranks:
    """Return the rank of the middle of each group of ties, between 0 and 1, by their counts in order."""
    ranks: Ranks = (np.cumsum(counts) - counts / 2) / max(int(counts.sum()), 1)
    return ranks


class Blocks:
    """Rows divided by time into blocks of several lengths, once for all that is known of them."""

    def __init__(self, times_ms: npt.NDArray[np.int64], block_ms: int) -> None:
        """Divide rows.

        Args:
            times_ms: Event times, ``(n_rows,)``.
            block_ms: From there on values are taken for independent.
        """
        span_ms = int(times_ms.max() - times_ms.min()) if len(times_ms) else 0
        longest_ms = min(block_ms, span_ms // BLOCKS_MIN)
        lengths_ms = [longest_ms >> halved for halved in range(HALVINGS) if longest_ms >> halved]
        self._divided = [
            np.unique(times_ms // length_ms, return_inverse=True, return_counts=True)[1:]
            for length_ms in lengths_ms
        ]

    def design_effect(self, ranks: Ranks) -> float:
        """Return how much more sums over a time vary than independent ones would, from above; at least 1.

        Args:
            ranks: Among the reference, ties in the middle, ``(n_rows,)``. Ranks whose ties are broken by
                chance vary by what the middle ones lack of a uniform variance; that part is independent.

        The largest counts of those of blocks of the given length, or an eighth of all time if that is less,
        and of each half as long: over a day the hours even out, over an hour they do not. Of sums of ranks
        and of their squares, too, the larger counts.
        """
        return max([1.0, *(_of_blocks(ranks, places, rows) for places, rows in self._divided)])


def _of_blocks(ranks: Ranks, places: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> float:
    """Return the design effect of blocks of one length: of each row its block, of each block its rows.

    The mean over B blocks of ``sum^2 / (n variance)`` is D. If sums are normal it is D times a chi-square
    of B - 1 degrees of freedom by that number, so dividing by the lower 5 % point is too low for one
    reference in twenty.
    """
    blocks = len(rows)
    if blocks < BLOCKS_MIN:
        return 1.0
    spread = float(special.chdtri(blocks - 1, 0.95)) / (blocks - 1)
    centred = ranks - 0.5
    found = []
    for values, variance in ((centred, _UNIFORM_VARIANCE), (centred**2, _SQUARES_VARIANCE)):
        own = values - values.mean()
        sums = np.bincount(places, weights=own, minlength=blocks)
        lacking = max(variance - float((own**2).mean()), 0.0)
        found.append((float((sums**2 / rows).sum()) / (blocks - 1) + lacking) / variance)
    return max(found) / spread
