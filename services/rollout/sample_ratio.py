"""Whether the arms get the shares of the keys that they should: a sample ratio mismatch. Pure.

If they do not, requests of one arm are lost or counted twice, and no comparison of the arms means anything.
The test bets on another share with a beta prior around the declared one (Lindon and Malek, "Anytime-valid
inference for multinomial count data", NeurIPS 2022), so it may be looked at after every key.
"""

import numpy as np
from scipy import special

from services.rollout.evidence import Numbers, log_mean

PRIOR_KEYS = np.array([10.0, 100.0, 1_000.0, 10_000.0])
"""Weights of the prior in keys: small ones find large mismatches soon, large ones find small mismatches."""


def log_evidence(challenger: Numbers, champion: Numbers, share: float) -> Numbers:
    """Return the log evidence that the arms' keys do not have the declared shares.

    Args:
        challenger: Distinct keys so far, ``(...)``.
        champion: The same.
        share: The challenger's declared share of both arms' keys, within (0, 1).

    >>> bool(log_evidence(np.array(300.0), np.array(9_700.0), 0.05) > np.log(1000))
    True
    """
    own, other = PRIOR_KEYS * share, PRIOR_KEYS * (1 - share)
    after = special.betaln(own + challenger[..., None], other + champion[..., None])
    chance = challenger * np.log(share) + champion * np.log1p(-share)
    return log_mean(after - special.betaln(own, other) - chance[..., None])
