"""The design effect is about 1 for independent values and large for values that are alike within blocks."""

import numpy as np
import pytest

from services.monitoring import design_effect, reference
from services.monitoring.design_effect import Blocks, middle_ranks
from services.runtime.declaration import DAY_MS, HOUR_MS, Monitoring

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


def days_of(values, rows_a_day=200, season=()):
    times_ms = np.arange(len(values)) * (DAY_MS // rows_a_day)
    return reference.of_column(
        "x", values, times_ms, season, design_effect.Blocks(times_ms, Monitoring().block_ms)
    )


def test_the_design_effect_follows_from_the_variance_between_days():
    """A quarter of the variance is between days: the design effect is 1 + 199 / 4, estimated upwards."""
    random = np.random.default_rng(1)
    levels, own = random.normal(size=60).repeat(200), random.normal(size=60 * 200)

    assert 40 < days_of(levels / 2 + own * np.sqrt(0.75)).design_effect < 110
    assert 1 <= days_of(own).design_effect < 1.8


def test_a_declared_season_is_no_part_of_the_design_effect():
    """Differences between weekdays alone do not make the rows of a week count less."""
    weekdays = np.tile(np.arange(7), 10).repeat(200) + np.random.default_rng(2).normal(size=70 * 200)

    assert days_of(weekdays).design_effect > 50
    assert days_of(weekdays, season=("weekday",)).design_effect < 1.8


def test_values_that_are_correlated_within_hours_have_a_design_effect_although_days_are_equal():
    """The values of every day rise from low to high."""
    hours = np.tile(np.arange(200.0), 40)

    assert days_of(hours).design_effect > 10


def test_one_row_has_a_design_effect_of_one():
    assert days_of(np.array([1.0])).design_effect == 1.0


def test_a_design_effect_is_at_most_the_rows_of_a_block():
    """Ten blocks of three days with equal values: the upper bound of the estimate would be 2.7 times that."""
    levels = np.random.default_rng(1).normal(size=10).repeat(3 * 870)
    assert days_of(levels, rows_a_day=870).design_effect <= 3 * 870 * 1.01


def test_an_indicator_that_the_reference_never_had_has_the_rows_of_the_shortest_block():
    blocks = Blocks(TIMES_MS, 72 * HOUR_MS)
    none = np.zeros(len(TIMES_MS), dtype=bool)
    assert 1 <= blocks.of_indicator(none) < 3
    assert blocks.of_indicator(none, halvings=4) > blocks.of_indicator(none)


def test_the_design_effect_of_an_indicator_is_the_mean_burst_of_its_rows():
    """Bursts of 20 of 2,000 rows a day; one burst of the shortest block is added."""
    random = np.random.default_rng(2)
    times_ms = np.arange(30 * 2000, dtype=np.int64) * (DAY_MS // 2000)
    blocks = Blocks(times_ms, 72 * HOUR_MS)
    seldom = (random.random(3000) < 0.02).repeat(20)
    assert 15 < blocks.of_indicator(seldom) < 60
    often = random.random(len(times_ms)) < 0.1
    assert 1 <= blocks.of_indicator(often) < 5


def test_groups_that_only_one_block_has_are_found():
    blocks = Blocks(TIMES_MS, 72 * HOUR_MS)
    groups = np.arange(len(TIMES_MS)) % 7
    groups[5] = 8
    groups[7] = -1
    assert np.flatnonzero(blocks.rows_in_one_block(groups)).tolist() == [5]


def test_bursts_of_an_hour_have_a_design_effect_although_sums_of_ranks_hardly_change():
    """One block of 64 rows in fifty is far above the others. In another feature most values are 0."""
    random = np.random.default_rng(3)
    blocks = (random.random(430) < 0.02).repeat(64)[:27_000]
    own = random.normal(size=27_000)
    assert days_of(own, rows_a_day=870).design_effect < 4
    assert 30 < days_of(own + 6 * blocks, rows_a_day=870).design_effect < 200
    assert 30 < days_of(np.abs(own) * blocks, rows_a_day=870).design_effect < 200


def test_products_of_columns_have_a_design_effect_where_their_correlation_differs_by_block():
    """Both columns are independent in time; their correlation is 0.9 or -0.9 for a day of 200 rows."""
    random = np.random.default_rng(4)
    times_ms = np.arange(60 * 200, dtype=np.int64) * (DAY_MS // 200)
    signs = random.choice([-1, 1], 60).repeat(200)
    first, own, third = random.normal(size=(3, 60 * 200))
    second = 0.9 * signs * first + np.sqrt(0.19) * own
    scores = np.stack([middle_ranks(each) * 200 - 100 for each in (first, second, third)], axis=1).astype(
        np.int8
    )
    pair, alone, other = Blocks(times_ms, 72 * HOUR_MS).of_products(scores).tolist()
    assert 60 < pair < 200
    assert 1 <= alone < 3
    assert 1 <= other < 3
