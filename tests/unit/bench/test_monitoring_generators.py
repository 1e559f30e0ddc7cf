"""The values of the monitoring benchmark have the variance, shares and correlations that their names say."""

import numpy as np
import pytest

from bench.monitoring import generators

ROWS = 64 * 400


def chance():
    return np.random.default_rng(1)


def test_same_seed_gives_the_same_values():
    first, second = (generators.rain(chance(), 100, 2, 0.5) for _ in range(2))
    assert (first == second).all()


def test_autoregression_is_standard_normal_and_correlated_by_its_coefficient():
    values = generators.autoregression(chance(), 40_000, 1, 0.9)[:, 0]
    assert values.std() == pytest.approx(1, abs=0.06)
    assert np.corrcoef(values[1:], values[:-1])[0, 1] == pytest.approx(0.9, abs=0.01)


def test_a_burst_raises_a_whole_block():
    values = generators.bursts(chance(), ROWS, 1, 0.1).reshape(-1, 64)
    means = values.mean(axis=1)
    assert np.minimum(abs(means), abs(means - generators.BURST_SD)).max() < 1
    assert (means > 2).mean() == pytest.approx(0.1, abs=0.04)


def test_rain_is_zero_in_dry_blocks():
    values = generators.rain(chance(), ROWS, 1, 0.05).reshape(-1, 64)
    wet = (values > 0).all(axis=1)
    assert (values[~wet] == 0).all()
    assert wet.mean() == pytest.approx(0.05, abs=0.03)


def test_correlations_of_blocks_cancel_out():
    values = generators.correlated_blocks(chance(), 256 * 200, 2, 0.5, 256)
    products = (values[:, 0] * values[:, 1]).reshape(-1, 256).mean(axis=1)
    assert abs(products).mean() == pytest.approx(0.5, abs=0.05)
    assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 0.1


def test_levels_are_a_share_of_the_variance():
    values = generators.levels(chance(), 900 * 100, 1, 0.6, 900, even=True)[:, 0]
    assert values.std() == pytest.approx(1, abs=0.03)
    assert values.reshape(-1, 900).mean(axis=1).std() ** 2 == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("rise", [0.02, 0.1])
def test_a_worse_world_has_the_log_loss_that_is_asked_for(rise):
    scores = generators.scores(chance(), 5_000)

    def mean_loss(chances):
        return -(chances * np.log(scores) + (1 - chances) * np.log1p(-scores)).mean()

    assert mean_loss(generators.worse(scores, rise)) - mean_loss(scores) == pytest.approx(rise, abs=1e-6)
