"""Whether the share of something in each unit of time is above a limit. Pure.

For a share x in [0, 1] of a unit and a limit m, ``1 + b (x - m)`` with b in (0, 1 / m) is a fair bet, or
worse, on "the expected share is at most m" (Waudby-Smith and Ramdas, arXiv 2010.09686, proposition 2). It is
for what the champion has no counterpart of: a champion always has a score, a shadow may lack it.
"""

import msgspec
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


class ShareBets(msgspec.Struct):
    """The same bets, one unit after another."""

    units: int = 0
    total: float = 0.0
    above: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(STAKES))
    below: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(STAKES))

    def add(self, share: float, limit: float) -> None:
        """Add the share of a unit."""
        excess = share - limit
        self.units += 1
        self.total += share
        self.above = (np.array(self.above) + np.log1p(excess / limit * STAKES)).tolist()
        self.below = (np.array(self.below) + np.log1p(-excess / (1 - limit) * STAKES)).tolist()

    @property
    def log_evidence(self) -> tuple[float, float]:
        """The log evidence that the expected share is above the limit, and that it is below."""
        return float(log_mean(np.array(self.above))), float(log_mean(np.array(self.below)))
