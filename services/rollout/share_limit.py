"""Whether the share of something in each unit of time is above a limit. Pure.

For a share x in [0, 1] of a unit and a limit m, ``1 + b (x - m)`` with b in (0, 1 / m) is a fair bet, or
worse, on "the expected share is at most m" (Waudby-Smith and Ramdas, arXiv 2010.09686, proposition 2). It is
for what the champion has no counterpart of: a champion always has a score, a shadow may lack it.
"""

import numpy as np

from services.rollout.evidence import Numbers, log_mean

STAKES = np.array([0.02, 0.1, 0.3, 0.9])
"""Bets as shares of the largest possible one."""


def log_evidence(shares: Numbers, limit: float) -> Numbers:
    """Return the log evidence after each unit that the expected share is above a limit.

    Args:
        shares: Of each unit, ``(..., n_units)``, within [0, 1].
        limit: Within (0, 1).

    >>> bool(log_evidence(np.array([1.0, 1.0]), 0.01)[-1] > np.log(1000))
    True
    """
    return log_mean(np.cumsum(np.log1p((shares - limit)[..., None] / limit * STAKES), axis=-2))


def log_evidence_below(shares: Numbers, limit: float) -> Numbers:
    """Return the log evidence after each unit that the expected share is below a limit."""
    return log_mean(np.cumsum(np.log1p((limit - shares)[..., None] / (1 - limit) * STAKES), axis=-2))
