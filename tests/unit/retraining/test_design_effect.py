"""The design effect is about 1 for independent values and large for values that are alike within blocks."""

import numpy as np
import pytest

from services.retraining import design_effect
from services.retraining.design_effect import Blocks, middle_ranks
from services.runtime.declaration import HOUR_MS

TIMES_MS = np.arange(24 * 100, dtype=np.int64) * HOUR_MS


def test_middle_ranks_give_ties_their_mean_rank():
    assert middle_ranks(np.array([3.0, 1.0, 1.0, 2.0])).tolist() == [0.875, 0.25, 0.25, 0.625]
    assert middle_ranks(np.array([])).tolist() == []


def test_independent_values_have_almost_no_design_effect():
    """It is an upper bound of an estimate, so a little above 1."""
    generator = np.random.default_rng(1)
    ranks = middle_ranks(generator.normal(size=len(TIMES_MS)))
    assert 1 <= Blocks(TIMES_MS, 72 * HOUR_MS).design_effect(ranks) < 2.5


def test_values_alike_for_a_day_count_as_one():
    generator = np.random.default_rng(1)
    ranks = middle_ranks(np.repeat(generator.normal(size=100), 24) + generator.normal(0, 1e-6, 2400))
    assert 20 < Blocks(TIMES_MS, 72 * HOUR_MS).design_effect(ranks) < 80


@pytest.mark.parametrize("rows", [0, 1, design_effect.BLOCKS_MIN - 1])
def test_too_few_blocks_count_as_independent(rows):
    ranks = np.linspace(0, 1, rows)
    assert Blocks(TIMES_MS[:rows], HOUR_MS).design_effect(ranks) == 1
