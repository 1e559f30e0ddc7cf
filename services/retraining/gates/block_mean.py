"""The mean of values that are alike within blocks of time and between neighbouring ones. Pure.

Held-out rows are thousands, but their days are few: a storm makes a day of losses alike, and may last. The
interval is Student's for the means of blocks, with the number of blocks reduced to as many independent ones:

    effective = B (1 - r) / (1 + r)

for B blocks whose residuals have the correlation r with the next block. r is estimated, which is too low for
few blocks: it is raised by the bias, ``(B r + 1) / (B - 3)`` (Kendall, "Note on bias in the estimation of
autocorrelation", 1954), and by half its standard error. The degrees of freedom are those of the effective
blocks, less one. Decision 40 has the coverage.
"""

import dataclasses
import math
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import special

from services.retraining.evaluation import Numbers

BLOCKS_MIN = 5
"""Minimum blocks with rows for an interval."""
CORRELATION_MAX = 0.9
CORRELATION_ERRORS = 0.5
"""Number of its standard errors by which the estimated correlation of blocks is raised."""
EFFECTIVE_MIN = 3.0
"""Minimum effective blocks: with two degrees of freedom, intervals do not become infinitely wide."""


def blocks_of(times_ms: npt.NDArray[np.int64], block_ms: int) -> npt.NDArray[np.int64]:
    """Return the number of each row's block (n,), the latest is 0; blocks end with the latest row."""
    if not len(times_ms):
        return times_ms
    found: npt.NDArray[np.int64] = (times_ms.max() - times_ms) // block_ms
    return found


@dataclasses.dataclass(frozen=True)
class BlockMean:
    """A mean, or a difference of means, with its error."""

    mean: float
    error: float
    """Standard error."""
    freedom: float
    """Degrees of freedom of Student's distribution."""
    blocks: int
    rows: int

    @classmethod
    def of(cls, values: Numbers, block_of: npt.NDArray[np.int64]) -> Self | None:
        """Return the mean of values (n,); None with fewer than `BLOCKS_MIN` blocks."""
        return cls.of_difference(values, block_of, np.ones(len(values), dtype=np.bool_), None)

    @classmethod
    def of_difference(
        cls,
        values: Numbers,
        block_of: npt.NDArray[np.int64],
        first: npt.NDArray[np.bool_],
        second: npt.NDArray[np.bool_] | None,
    ) -> Self | None:
        """Return the mean over the first rows less that over the second; None with too few blocks of both.

        Args:
            values: (n,)
            block_of: Number of each row's block (n,), see `blocks_of`.
            first: Which rows (n,) are averaged, at least one.
            second: Which rows (n,) the others are; None: there are none.
        """
        mean = 0.0
        influence, rows = np.zeros(len(values)), 0
        for flags, sign in ((first, 1.0), (second, -1.0)):
            if flags is not None:
                part_mean, count = float(values[flags].mean()), int(np.count_nonzero(flags))
                influence[flags] += sign * (values[flags] - part_mean) / count
                mean, rows = mean + sign * part_mean, rows + count
        used = first if second is None else first | second
        sums = _block_sums(influence[used], block_of[used])
        if len(sums) < BLOCKS_MIN:
            return None
        independent = float(influence @ influence) * rows / max(rows - 1, 1)
        error, freedom = _error(sums, independent)
        return cls(mean=mean, error=error, freedom=freedom, blocks=len(sums), rows=rows)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the ends, each of which is passed by the true mean with a probability of ``alpha``."""
        distance = self.error * float(special.stdtrit(self.freedom, 1 - alpha))
        return self.mean - distance, self.mean + distance

    def p_above(self, limit: float) -> float:
        """Return the p-value of the hypothesis that the true mean is at most a limit."""
        if not self.error:
            return 0.0 if self.mean > limit else 1.0
        return float(special.stdtr(self.freedom, (limit - self.mean) / self.error))


def _block_sums(influence: Numbers, block_of: npt.NDArray[np.int64]) -> Numbers:
    """Return the sums of the blocks that have rows, in the order of time."""
    _, numbers = np.unique(block_of, return_inverse=True)
    sums: Numbers = np.bincount(numbers, weights=influence).astype(np.float64)
    return sums


def _error(sums: Numbers, independent: float) -> tuple[float, float]:
    """Return standard error and degrees of freedom for the influence of each block on the mean (B,)."""
    blocks, spread = len(sums), float(sums @ sums)
    correlation = 0.0
    if spread:
        measured = float(sums[1:] @ sums[:-1]) / spread
        raised = (blocks * measured + 1) / (blocks - 3) + CORRELATION_ERRORS / math.sqrt(blocks)
        correlation = min(max(raised, 0.0), CORRELATION_MAX)
    effective = max(blocks * (1 - correlation) / (1 + correlation), EFFECTIVE_MIN)
    variance = spread * (blocks / effective) * effective / (effective - 1)
    return math.sqrt(max(variance, independent)), effective - 1
