"""Paired differences of two versions that score the same requests, by blocks of time. Pure.

For each block b the sum ``S_b = sum(d - m)`` of the differences d of n_b requests is one bet on "the mean of
d is at most m". If the sums are independent and as likely above as below 0 by as much, any odd function h
with values in (-1, 1) makes ``1 + h(S_b)`` a fair bet, and the one that grows fastest for normal sums is

    1 + tanh(k S_b) = 2 / (1 + exp(-2 k S_b)),    k = mean / variance

It is bounded, so no block decides alone, and it needs neither the scale of the differences nor how alike the
requests of a block are: a storm of a day is one bet, however many requests it has. Two versions that may be
exchanged, as in an A/A rollout, meet the assumption exactly. With a lower mean than m the bets lose. This is
betting as in Waudby-Smith and Ramdas, arXiv 2010.09686, with signs as the fair coin (Ramdas et al., arXiv
2009.03167, section 4).

The stake of a block depends on the blocks before it only. So the product over blocks is an e-process: it may
be looked at after each block.
"""

import math

import msgspec
import numpy as np

from services.rollout.evidence import Numbers, log_mean

STAKES = np.array([0.25, 0.5, 1.0, 2.0])
"""Multiples of ``1 / rms`` of the sums so far. The best one is the mean over the rms of the sums."""
WARM_UP_BLOCKS = 2
"""Blocks that only tell the scale."""
ROWS_MIN = 30
"""Minimum rows of a block: sums of fewer rows with rare large differences are lopsided. Shorter blocks are
merged with the next ones."""
DIFFERENCES = 129
"""Number of means that `interval` tries."""


def log_evidence(rows: Numbers, sums: Numbers, margin: float = 0.0) -> Numbers:
    """Return the log evidence after each block that the mean difference is above a margin.

    Args:
        rows: Rows of each block, ``(..., n_blocks)``; each at least 1.
        sums: Sum of their differences, ``(..., n_blocks)``.
        margin: The hypothesis is that the mean difference is at most this.

    Returns:
        ``(..., n_blocks)``; 0 is no evidence, below 0 is evidence lost.

    >>> worse = log_evidence(np.full(12, 100.0), np.full(12, 3.0))
    >>> bool(worse[-1] > math.log(20)), bool(log_evidence(np.full(12, 100.0), np.full(12, -3.0))[-1] < 0)
    (True, True)
    """
    excess = sums - margin * rows
    squares = np.cumsum(excess**2, axis=-1)
    before = np.concatenate([np.zeros_like(squares[..., :1]), squares[..., :-1]], axis=-1)
    number = np.arange(excess.shape[-1])
    scale = np.sqrt(before / np.maximum(number, 1))
    is_bet = (number >= WARM_UP_BLOCKS) & (scale > 0)
    bets = np.where(is_bet, excess / np.where(scale > 0, scale, 1.0), 0.0)[..., None] * STAKES
    won = np.cumsum(bets - _log_cosh(bets), axis=-2)
    return log_mean(won)


class PairBets(msgspec.Struct):
    """The same bets, one block after another, where there are too many blocks to keep."""

    blocks: int = 0
    squares: float = 0.0
    won: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(STAKES))

    def add(self, excess: float) -> None:
        """Add the sum of a block, less the margin for each of its rows."""
        if self.blocks >= WARM_UP_BLOCKS and self.squares > 0:
            bets = excess / math.sqrt(self.squares / self.blocks) * STAKES
            self.won = (np.array(self.won) + bets - _log_cosh(bets)).tolist()
        self.blocks += 1
        self.squares += excess * excess

    @property
    def log_evidence(self) -> float:
        """The log evidence that sums are above 0."""
        return float(log_mean(np.array(self.won)))


def interval(rows: Numbers, sums: Numbers, log_limit: float, bound: float = 1.0) -> tuple[float, float]:
    """Return the mean differences against which there is no evidence after the last block.

    Args:
        rows: Rows of each block, ``(n_blocks,)``.
        sums: Sum of their differences, ``(n_blocks,)``.
        log_limit: Log evidence at which a mean is excluded, on either side.
        bound: Differences are within ``-bound`` to ``bound``.
    """
    if not len(rows):
        return -bound, bound
    mean = float(sums.sum() / rows.sum())
    spread = bound * np.geomspace(1e-5, 2.0, DIFFERENCES)
    low = [at for at in (mean - spread).tolist() if log_evidence(rows, sums, at)[-1] >= log_limit]
    high = [at for at in (mean + spread).tolist() if log_evidence(rows, -sums, -at)[-1] >= log_limit]
    return max([-bound, *low]), min([bound, *high])


def merged(rows: Numbers, sums: Numbers) -> tuple[Numbers, Numbers]:
    """Merge blocks ``(n_blocks,)`` with the next ones until each has `ROWS_MIN` rows; drop the last rest.

    A block is complete or not by its rows alone, so merging does not depend on the differences.
    """
    kept_rows: list[float] = []
    kept_sums: list[float] = []
    count, total = 0.0, 0.0
    for block_rows, block_sum in zip(rows.tolist(), sums.tolist(), strict=True):
        count, total = count + block_rows, total + block_sum
        if count >= ROWS_MIN:
            kept_rows.append(count)
            kept_sums.append(total)
            count, total = 0.0, 0.0
    return np.array(kept_rows), np.array(kept_sums)


def _log_cosh(values: Numbers) -> Numbers:
    sizes = np.abs(values)
    found: Numbers = sizes + np.log1p(np.exp(-2 * sizes)) - math.log(2)
    return found
