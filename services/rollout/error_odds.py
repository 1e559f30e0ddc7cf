"""Given that an error occurred, which arm made it? Pure.

If the challenger fails no more often than the champion, an error is the challenger's with a probability of
at most its share w of the keys. That share is in each prediction, so nothing has to be known of the rate of
errors, which may change with the time of day. For an alternative in which the challenger's odds of an error
are r times the champion's, the likelihood ratio of e_1 own errors and e_0 of the champion is

    (q / w)^e_1 ((1 - q) / (1 - w))^e_0,    q = w r / (w r + 1 - w)

and the mean over a grid of r is an e-process (Lindon et al., arXiv 2205.14762, section 3). Each key counts
with one error, since its requests are alike.
"""

import numpy as np

from services.rollout.evidence import Numbers, log_mean

ODDS = np.array([1.2, 1.3, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0])
"""Ratios of the challenger's rate of errors to the champion's that are tried."""


def log_evidence(challenger: Numbers, champion: Numbers, share: float) -> Numbers:
    """Return the log evidence that the challenger fails more often than the champion.

    Args:
        challenger: Errors so far, ``(...)``.
        champion: The same.
        share: The challenger's share of both arms' keys, within (0, 1).

    >>> bool(log_evidence(np.array(8.0), np.array(0.0), 0.05) > np.log(1000))
    True
    """
    chance = share * ODDS / (share * ODDS + 1 - share)
    won = challenger[..., None] * np.log(chance / share)
    return log_mean(won + champion[..., None] * np.log((1 - chance) / (1 - share)))
