import numpy as np
import pytest
from scipy import stats

from services.rollout import error_odds
from services.rollout.evidence import log_threshold


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("errors", [1, 7, 40])
def test_wins_nothing_on_average_if_arms_fail_alike(share: float, errors: int) -> None:
    own = np.arange(errors + 1.0)
    chances = stats.binom.pmf(own, errors, share)
    assert chances @ np.exp(error_odds.log_evidence(own, errors - own, share)) == pytest.approx(1)


def test_loses_on_average_if_the_challenger_fails_less() -> None:
    own = np.arange(31.0)
    chances = stats.binom.pmf(own, 30, 0.03)
    assert chances @ np.exp(error_odds.log_evidence(own, 30 - own, 0.05)) < 1


def test_few_own_errors_suffice_where_the_champion_has_none() -> None:
    assert error_odds.log_evidence(np.array(4.0), np.array(0.0), 0.01) > log_threshold(0.05, 16)
