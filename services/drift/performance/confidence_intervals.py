"""Confidence intervals of a mean of bounded values: at one fixed time, and at all times together. Pure.

`MeanConfidenceSequence` is an empirical-Bernstein confidence sequence. For values X in [0, 1], a guess g made
before each, and any stake s in (0, 1),

    exp(s (X - g) - psi(s) (X - g)^2) <= 1 + s (X - g),    psi(s) = -log(1 - s) - s,

(Fan, Grama and Liu 2015), so the product of ``exp(s (X - E[X | past]) - psi(s) (X - g)^2)`` is a
supermartingale. The mean over a fixed grid of stakes is one as well, and by Ville's inequality the
probability that it ever reaches 2 / alpha is at most alpha / 2. The means for which it stays below 2 / alpha
are an interval, on either side (Waudby-Smith and Ramdas, arXiv 2010.09686, theorem 2; Howard et al., arXiv
1810.08240, theorem 4). It holds at all times together for the running mean of the conditional means. These
may change in any way, with storms and holidays: values need be neither independent nor identically
distributed. The interval is about past values, not about future ones.

The guess may stay the same for a whole batch, provided that it was made before the batch. Then count, sum and
sum of squares of the batch are sufficient: sums of workers, slices and partitions add up exactly, and the
order within a batch does not matter.
"""

import math

import msgspec
import numpy as np

_STAKES = 0.75 * 2.0 ** (-np.arange(28) / 2)
"""The grid of stakes: for sums of squares from 10 to 1e9 one is within a factor of sqrt(2) of the best."""
_DEBTS = -np.log1p(-_STAKES) - _STAKES
_STEPS_MAX = 50
_PRECISION = 1e-12
GUESS_FIRST = 0.5
"""The guess before the first value."""
NORMAL_QUANTILE = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""
ALPHA = 0.05
"""Maximum probability that an interval ever misses the mean."""


class MeanConfidenceSequence(msgspec.Struct, array_like=True):
    """The running mean of values in [0, 1] with an interval that holds at all times together.

    >>> sequence = MeanConfidenceSequence()
    >>> sequence.add(1000, total=300.0, squares=300.0)  # 1,000 answers, 300 of them wrong
    >>> [round(bound, 2) for bound in sequence.interval()]
    [0.24, 0.36]
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    """Sum of the squared distances from the guesses."""

    def add(self, count: int, total: float, squares: float) -> None:
        """Add a batch: the number of its values, their sum, and the sum of their squares."""
        guess = (GUESS_FIRST + self.total) / (1 + self.count)
        self.squares += max(squares - 2 * guess * total + count * guess * guess, 0.0)
        self.count += count
        self.total += total

    @property
    def mean(self) -> float:
        """The mean of all values so far; there must be at least one."""
        return self.total / self.count

    def interval(self, alpha: float = ALPHA) -> tuple[float, float]:
        """Return the interval; the probability that any of them misses the mean is at most alpha."""
        if not self.count:
            return 0.0, 1.0
        distance = excess_max(self.squares, alpha) / self.count
        return max(self.mean - distance, 0.0), min(self.mean + distance, 1.0)


def excess_max(squares: float, alpha: float) -> float:
    """Return the distance of a sum from its expectation at which the mean over the stakes is 2 / alpha."""
    limit, debts = math.log(2 / alpha), _DEBTS * squares
    # It suffices that one stake reaches the limit times the size of the grid: an upper bound of the solution.
    excess = float(np.min((limit + math.log(len(_STAKES)) + debts) / _STAKES))
    for _ in range(
        _STEPS_MAX
    ):  # Newton's method: the function is convex and rising, so it converges from above
        logs = _STAKES * excess - debts
        largest = logs.max()
        weights = np.exp(logs - largest)
        total = weights.sum()
        over = largest + math.log(total / len(_STAKES)) - limit
        step = float(over * total / (weights @ _STAKES))
        excess -= step
        if step < _PRECISION * excess:
            break
    return excess


def normal_interval(count: int, total: float, squares: float, half_range: float) -> tuple[float, float]:
    """Return a 95 % interval of a mean at one fixed time, by the central limit theorem.

    Args:
        count: Number of values, at least 1.
        total: Their sum.
        squares: The sum of their squares.
        half_range: One value at this distance, half of the range, is added to the variance: a few equal
        values
            do not make a mean certain.
    """
    mean = total / count
    variance = (max(squares - total * mean, 0.0) + half_range * half_range) / count
    distance = NORMAL_QUANTILE * math.sqrt(variance / count)
    return mean - distance, mean + distance
