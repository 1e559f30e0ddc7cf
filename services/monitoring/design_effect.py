"""The design effect: how much more sums of ranks vary because values close in time are alike. Pure."""

import numpy as np
import numpy.typing as npt
from scipy import special

BLOCKS_MIN = 8
"""Minimum blocks for an estimate; with fewer, values count as independent."""
HALVINGS = 7
"""Number of block lengths, each half the one before: from three days down to about an hour."""
CHI_SQUARE_POINT = 0.25
"""Estimates are divided by this quantile of their distribution, so that one in four is too low. For 10
blocks, the divisor is 0.65."""
TAIL_SHARES = (1 / 16, 1 / 64)
"""Shares of the outermost ranks that stand for values out of range, which the training set never has."""
BURST_HALVINGS = 4
"""Halvings of a block down to the longest burst that the training set lacks, a 16th of a block: of values out
of range, or of values that differ from the usual one."""
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
        also the maximum over sums of ranks, sums of their squares, and the numbers of the smallest and the
        largest ranks: a storm of an hour changes these, and hardly the sums.
        """
        tails = [
            flags.astype(np.float64)
            for share in TAIL_SHARES
            for flags in (ranks <= share, ranks >= 1 - share)
        ]
        found = [_of_blocks(ranks, block_of, rows) for block_of, rows in self._divided]
        found += [_of_values(flags, block_of, rows) for flags in tails for block_of, rows in self._divided]
        return max([1.0, *found])

    def of_values(self, values: npt.NDArray[np.float64]) -> float:
        """Return an upper bound of the variance of sums of values ``(n_rows,)`` itself; at least 1."""
        found = (
            min(_of_values(values, block_of, rows) / _spread(len(rows)), _rows_per_block(rows))
            for block_of, rows in self._divided
            if len(rows) >= BLOCKS_MIN
        )
        return max([1.0, *found])

    def of_indicator(self, flags: npt.NDArray[np.bool_], halvings: int = HALVINGS - 1) -> float:
        """Return the design effect of an indicator, bounded by the rows per block; at least 1.

        Args:
            flags: Whether each row has the property, ``(n_rows,)``.
            halvings: How often the block is halved to the length of the added burst.

        k rows with the property tell little about their bursts if k is small, and nothing if it is 0. So one
        burst is added to those seen: with the measured design effect D, and r rows in the burst, the mean
        size of the burst of a row is ``(k D + r r) / (k + r)``.
        """
        rows, burst = int(np.count_nonzero(flags)), self._rows_after(halvings)
        values = flags.astype(np.float64)
        measured = max([1.0, *(_of_values(values, block_of, rows) for block_of, rows in self._divided)])
        return (rows * measured + burst * burst) / (rows + burst)

    def of_tail(self, ranks: Ranks) -> float:
        """Return the design effect of values above the range: that of the largest shares of the ranks."""
        found = (self.of_indicator(ranks >= 1 - share, BURST_HALVINGS) for share in TAIL_SHARES)
        return max(found)

    def of_products(self, scores: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Return the design effects of the products of all pairs of columns, ``(n_pairs,)``, at least 1.

        Where correlations differ from block to block, products are alike within blocks although the values
        are not.

        Args:
            scores: Rank scores, ``(n_rows, n_features)``.
        """
        columns = scores.astype(np.float64)
        first, second = np.triu_indices(columns.shape[1], 1)
        count = max(len(columns), 1)
        means = (columns.T @ columns)[first, second] / count
        variances = ((columns**2).T @ columns**2)[first, second] / count - means**2
        found = np.ones(len(first))
        for block_of, rows in self._divided:
            if len(rows) < BLOCKS_MIN:
                continue
            squares = np.zeros(len(first))
            order = np.argsort(block_of, kind="stable")
            for part in np.split(order, np.cumsum(rows)[:-1]):
                inside = columns[part]
                squares += ((inside.T @ inside)[first, second] - len(part) * means) ** 2 / len(part)
            estimates = squares / (len(rows) - 1) / np.maximum(variances, 1e-9) / _spread(len(rows))
            found = np.maximum(found, np.minimum(estimates, _rows_per_block(rows)))
        return found

    def _rows_after(self, halvings: int) -> float:
        """Return the rows per block after ``halvings`` halvings, weighted by rows."""
        return _rows_per_block(self._divided[: halvings + 1][-1][1]) if self._divided else 1.0

    def rows_in_one_block(self, groups: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Return the rows whose group is in no other block of the longest length.

        For all other blocks, these groups would be new.

        Args:
            groups: The group of each row, ``(n_rows,)``, from 0 on; less than 0: none.
        """
        if not self._divided or not (groups >= 0).any():
            return np.zeros(len(groups), dtype=bool)
        block_of = self._divided[0][0]
        size = int(groups.max()) + 1
        first = np.full(size, np.iinfo(np.intp).max)
        last = np.full(size, -1)
        inside = groups >= 0
        np.minimum.at(first, groups[inside], block_of[inside])
        np.maximum.at(last, groups[inside], block_of[inside])
        found: npt.NDArray[np.bool_] = inside & (first == last)[groups]
        return found


def _spread(blocks: int) -> float:
    """Return the factor by which an estimate from ``blocks`` blocks is too low in one case of four."""
    return float(special.chdtri(blocks - 1, 1 - CHI_SQUARE_POINT)) / (blocks - 1)


def _rows_per_block(rows: npt.NDArray[np.int64]) -> float:
    """Return the mean, over all rows, of the rows in their block: the design effect of equal values."""
    return float((rows**2).sum() / rows.sum())


def _of_values(
    values: npt.NDArray[np.float64], block_of: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> float:
    """Return the measured design effect of values ``(n_rows,)`` for blocks of one length."""
    blocks, deviations = len(rows), values - values.mean()
    variance = float((deviations**2).mean())
    if blocks < BLOCKS_MIN or not variance:
        return 1.0
    sums = np.bincount(block_of, weights=deviations, minlength=blocks)
    return min(float((sums**2 / rows).sum()) / (blocks - 1) / variance, _rows_per_block(rows))


def _of_blocks(ranks: Ranks, block_of: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> float:
    """Return the design effect for blocks of one length.

    Args:
        ranks: Ranks, ``(n_rows,)``.
        block_of: The block of each row, ``(n_rows,)``.
        rows: The number of rows of each block, ``(n_blocks,)``.

    The mean over B blocks of ``sum^2 / (n variance)`` estimates the design effect D. For normal sums it is D
    times a chi-square variable with B - 1 degrees of freedom, divided by B - 1. Dividing by the lower
    quartile of that distribution gives an upper bound, which is too low for one reference in four. A higher
    one is not needed to keep the budget, and changes are found later with it (decision 32).
    """
    blocks = len(rows)
    if blocks < BLOCKS_MIN:
        return 1.0
    centred = ranks - 0.5
    found = []
    for values, variance in ((centred, _UNIFORM_VARIANCE), (centred**2, _SQUARES_VARIANCE)):
        deviations = values - values.mean()
        sums = np.bincount(block_of, weights=deviations, minlength=blocks)
        lacking = max(variance - float((deviations**2).mean()), 0.0)
        found.append((float((sums**2 / rows).sum()) / (blocks - 1) + lacking) / variance)
    return min(max(found) / _spread(blocks), _rows_per_block(rows))
