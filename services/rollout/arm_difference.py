"""The difference of a mean between two arms that answer a random share of the keys each. Pure.

Each key belongs to the challenger's arm (A = 1) with the probability w, whatever else is known of it, and
counts once. With a guess c that was made before, and values v in [0, 1],

    X = (v - c - m A) (A - w),    E[X | past] = w (1 - w) (mu_1 - mu_0 - m)

So X is the randomisation's own estimate of the difference of the arms' means, less m: it needs no
independence between requests, and a storm hits both arms. With K so that Y = X / K is at least -1,

    exp(s Y - psi(s) Y^2) <= 1 + s Y,    psi(s) = -log(1 - s) - s

(Fan, Grama and Liu 2015; Howard et al., arXiv 1810.08240; for arms Lindon et al., arXiv 2205.14762), so the
left side is a fair bet, or worse, on "the difference is at most m". The product over a cohort needs only its
sums, by arm. The share w is that of the cohort, so evidence stays valid when shares change.

The values must be counted in the order of the requests, each when its label window has closed and with what
is known then: an estimate from the labels that happen to be known at a time is no martingale
(arXiv 2603.25971).
"""

from typing import NamedTuple

import numpy as np

from services.rollout.evidence import Numbers, log_mean

STAKES = 0.5 * 2.0 ** -np.arange(7)
_DEBTS = -np.log1p(-STAKES) - STAKES
GUESS_FIRST = 0.5
"""The guess before the first value."""
SCALE_MIN = 1e-6
DIFFERENCES = 129
"""Number of differences that `interval` tries."""


class KeySums(NamedTuple):
    """Sums of the values of one arm, by cohort, ``(..., n_cohorts)``; of keys, each counted once."""

    keys: Numbers
    total: Numbers
    squares: Numbers


def log_evidence(
    challenger: KeySums, champion: KeySums, share: Numbers | float, margin: float = 0.0
) -> Numbers:
    """Return the log evidence after each cohort that the challenger's mean is above the champion's.

    Args:
        challenger: Sums of values in [0, 1].
        champion: The same.
        share: The challenger's share of both arms' keys, of each cohort or of all.
        margin: The hypothesis is that the challenger's mean is above by at most this.

    Returns:
        ``(..., n_cohorts)``.
    """
    guess = _guesses(champion)
    above = guess + margin
    lowest = np.maximum(above * (1 - share), (1 - guess) * share)
    return _bets(*_sums(challenger, champion, share, guess, margin), lowest)


def log_evidence_below(
    challenger: KeySums, champion: KeySums, share: Numbers | float, margin: float = 0.0
) -> Numbers:
    """Return the log evidence that the challenger's mean is above the champion's by less than a margin."""
    guess = _guesses(champion)
    lowest = np.maximum((1 - guess - margin) * (1 - share), guess * share)
    total, squares = _sums(challenger, champion, share, guess, margin)
    return _bets(-total, squares, lowest)


def interval(
    challenger: KeySums, champion: KeySums, share: Numbers | float, log_limit: float
) -> tuple[float, float]:
    """Return the differences against which there is no evidence after the last cohort, ``(n_cohorts,)``."""
    if not len(challenger.keys) or not challenger.keys.sum() or not champion.keys.sum():
        return -1.0, 1.0
    mean = float(challenger.total.sum() / challenger.keys.sum() - champion.total.sum() / champion.keys.sum())
    spread = np.geomspace(1e-5, 2.0, DIFFERENCES)
    arms = (challenger, champion, share)
    low = [at for at in (mean - spread).tolist() if log_evidence(*arms, at)[-1] >= log_limit]
    high = [at for at in (mean + spread).tolist() if log_evidence_below(*arms, at)[-1] >= log_limit]
    return max([-1.0, *low]), min([1.0, *high])


def _guesses(champion: KeySums) -> Numbers:
    """Return for each cohort the champion's mean before it."""
    keys, total = np.cumsum(champion.keys, axis=-1), np.cumsum(champion.total, axis=-1)
    found: Numbers = (GUESS_FIRST + total - champion.total) / (1 + keys - champion.keys)
    return found


def _sums(
    challenger: KeySums, champion: KeySums, share: Numbers | float, guess: Numbers, margin: float
) -> tuple[Numbers, Numbers]:
    """Return the sums of X and of its square, by cohort."""
    above = guess + margin
    own, other = challenger.total - challenger.keys * above, champion.total - champion.keys * guess
    own_squares = challenger.squares - 2 * above * challenger.total + challenger.keys * above**2
    other_squares = champion.squares - 2 * guess * champion.total + champion.keys * guess**2
    return (1 - share) * own - share * other, (1 - share) ** 2 * own_squares + share**2 * other_squares


def _bets(total: Numbers, squares: Numbers, lowest: Numbers) -> Numbers:
    scale = np.maximum(lowest, SCALE_MIN)
    unit, unit_squares = (total / scale)[..., None], (squares / scale**2)[..., None]
    return log_mean(np.cumsum(unit * STAKES - unit_squares * _DEBTS, axis=-2))
