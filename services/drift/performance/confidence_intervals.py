"""How far a mean of bounded values is known: at one time, and at all times together. Pure.

`MeanConfidenceSequence` is an empirical-Bernstein confidence sequence. For values X in [0, 1], a guess g made
before each, and any stake s in (0, 1),

    exp(s (X - g) - psi(s) (X - g)^2) <= 1 + s (X - g),    psi(s) = -log(1 - s) - s,

(Fan, Grama and Liu 2015), so the product of ``exp(s (X - E[X | past]) - psi(s) (X - g)^2)`` is a
supermartingale. The mean over a fixed grid of stakes is one as well, and by Ville's inequality it ever
reaches 2 / alpha with a probability of at most alpha / 2. What stays below is an interval, on either side
(Waudby-Smith and Ramdas, arXiv 2010.09686, theorem 2; Howard et al., arXiv 1810.08240, theorem 4). It holds
at all times together for the running mean of the conditional means, which may change as they like: storms and
holidays are in them, so nothing need be independent or alike. It is about the time that was, not about what
is to come.

The guess may stay the same for a whole batch, as long as it is older than the batch. Then count, sum and
sum of squares of the batch are all that is needed: sums of workers, slices and partitions add up exactly, and
order within a batch does not matter.
"""

import math

import msgspec
import numpy as np

_STAKES = 0.75 * 2.0 ** (-np.arange(28) / 2)
"""Best for sums of squares from 10 to 1e9, within a factor of the root of two."""
_DEBTS = -np.log1p(-_STAKES) - _STAKES
_STEPS_MAX = 50
_PRECISION = 1e-12
GUESS_FIRST = 0.5
"""Where nothing is known."""
NORMAL_QUANTILE = 1.959963984540054
"""Two-sided 95 %."""
ALPHA = 0.05
"""How often an interval may ever miss."""


class MeanConfidenceSequence(msgspec.Struct, array_like=True):
    """The running mean of values in [0, 1] with an interval that holds at all times together."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    """Of the distances from the guesses."""

    def add(self, count: int, total: float, squares: float) -> None:
        """Take a batch: how many values, their sum, and the sum of their squares."""
        guess = (GUESS_FIRST + self.total) / (1 + self.count)
        self.squares += max(squares - 2 * guess * total + count * guess * guess, 0.0)
        self.count += count
        self.total += total

    @property
    def mean(self) -> float:
        """Of all values so far; there must be one."""
        return self.total / self.count

    def interval(self, alpha: float = ALPHA) -> tuple[float, float]:
        """Return the interval that misses with a probability of at most alpha, ever."""
        if not self.count:
            return 0.0, 1.0
        distance = excess_max(self.squares, alpha) / self.count
        return max(self.mean - distance, 0.0), min(self.mean + distance, 1.0)


def excess_max(squares: float, alpha: float) -> float:
    """Return how far a sum may be from its expectation before the mean of the stakes reaches 2 / alpha."""
    limit, debts = math.log(2 / alpha), _DEBTS * squares
    # A single stake that reaches the limit and its share of the grid is enough: the answer is not above that.
    excess = float(np.min((limit + math.log(len(_STAKES)) + debts) / _STAKES))
    for _ in range(_STEPS_MAX):  # Newton's method: the logarithm is convex and rises, so it comes from above
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


def normal_interval(count: int, total: float, squares: float, reach: float) -> tuple[float, float]:
    """Return a 95 % interval of a mean at one fixed time, by the central limit theorem.

    One value at a distance of ``reach``, half of the range, is added to the variance: a handful of equal
    values does not make a mean certain.
    """
    mean = total / count
    variance = (max(squares - total * mean, 0.0) + reach * reach) / count
    distance = NORMAL_QUANTILE * math.sqrt(variance / count)
    return mean - distance, mean + distance
