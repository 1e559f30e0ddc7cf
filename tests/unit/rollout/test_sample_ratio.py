import numpy as np
import pytest
from scipy import stats

from services.rollout import sample_ratio
from services.rollout.evidence import log_threshold


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5])
@pytest.mark.parametrize("keys", [1, 20, 300])
def test_wins_nothing_on_average_with_the_declared_shares(share: float, keys: int) -> None:
    own = np.arange(keys + 1.0)
    log_chances = stats.binom.logpmf(own, keys, share)
    won = log_chances + sample_ratio.log_evidence(own, keys - own, share)
    assert np.logaddexp.reduce(won) == pytest.approx(0, abs=1e-9)


def test_lost_keys_are_found() -> None:
    assert sample_ratio.log_evidence(np.array(4_500.0), np.array(95_000.0), 0.05) > log_threshold(0.05, 16)


def test_exact_shares_are_no_evidence() -> None:
    assert sample_ratio.log_evidence(np.array(5_000.0), np.array(95_000.0), 0.05) < 0
