import numpy as np
import pytest

from services.rollout.evidence import log_mean, log_threshold


def test_mean_of_wealth_is_that_of_bettors_with_equal_shares() -> None:
    assert np.exp(log_mean(np.log([[1.0, 3.0], [2.0, 2.0]]))) == pytest.approx([2.0, 2.0])


def test_threshold_of_several_tests_is_higher_by_their_number() -> None:
    assert np.exp(log_threshold(0.05)) == pytest.approx(20)
    assert np.exp(log_threshold(0.05, 4)) == pytest.approx(80)
