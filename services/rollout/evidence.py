"""Evidence that multiplies: log e-values, their mixtures, and the share of alpha that each test gets. Pure.

An e-process of a null hypothesis is a random sequence that starts at 1 and whose mean is at most 1 at every
stopping time while the hypothesis holds. By Ville's inequality it ever reaches 1 / alpha with a probability
of at most alpha, however often and whenever it is looked at (Ramdas et al., arXiv 2210.01948).
"""

import math

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def log_mean(logs: Numbers) -> Numbers:
    """Return the log of the mean over the last axis, ``(..., n)`` to ``(...)``: bettors with equal shares.

    >>> float(np.exp(log_mean(np.log([1.0, 3.0]))).round(6))
    2.0
    """
    found: Numbers = np.logaddexp.reduce(logs, axis=-1) - math.log(logs.shape[-1])
    return found


def log_threshold(alpha: float, tests: int = 1) -> float:
    """Return the log evidence at which one of several tests rejects, so that all together keep alpha.

    Args:
        alpha: Maximum probability that any of the tests ever rejects while all hypotheses hold.
        tests: Number of tests; they may depend on each other in any way (union bound).
    """
    return math.log(tests / alpha)
