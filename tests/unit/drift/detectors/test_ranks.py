"""Ranks are uniform while nothing changes, for any reference, and the same in any slices."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.detectors.ranks import Ranking

FEATURES, SEASONS, BINS = 2, 3, 6


def random_rows(rows, seed):
    random = np.random.default_rng(seed)
    shape = (rows, FEATURES)
    return random.integers(0, BINS, shape), random.random(rows), random.integers(0, SEASONS, shape)


@settings(max_examples=40)
@given(st.integers(0, 200), st.lists(st.integers(0, 200), max_size=4), st.integers(0, 99))
def test_ranks_equal_the_definition_in_any_slices(rows, cuts, seed):
    """A value is ranked among the reference and the earlier values of the same season."""
    bins, tie_breakers, seasons = random_rows(rows, seed)
    known = np.random.default_rng(seed).integers(0, 9, (FEATURES, SEASONS, BINS))
    ranking, parts = Ranking(known), []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), rows], strict=True):
        piece = slice(start, end)
        parts.append(ranking.rank(bins[piece], tie_breakers[piece], seasons[piece]))
    found, counts = np.concatenate(parts)[:rows], known.copy()
    for row in range(rows):
        for feature in range(FEATURES):
            mine = counts[feature, seasons[row, feature]]
            index = bins[row, feature]
            exact = (mine[:index].sum() + tie_breakers[row] * (mine[index] + 1)) / (mine.sum() + 1)
            assert found[row, feature] == pytest.approx(exact, abs=1e-6)
            mine[index] += 1


@pytest.mark.parametrize("known_rows", [0, 5, 1000])
def test_ranks_are_uniform_and_independent_for_any_size_of_reference(known_rows):
    """Tested over 400 references; ranks against a small reference alone are not uniform."""
    random, firsts, means = np.random.default_rng(3), [], []
    for _ in range(400):
        known = random.multinomial(known_rows, [0.5, 0.3, 0.2])[None, None, :]
        ranks = Ranking(known).rank(random.choice(3, (100, 1), p=[0.5, 0.3, 0.2]), random.random(100))
        firsts.append(ranks[0, 0])
        means.append((ranks.mean() - 0.5) * np.sqrt(12 * 100))
    assert scipy.stats.kstest(firsts, "uniform").pvalue > 0.01
    assert scipy.stats.kstest(means, "norm").pvalue > 0.01


def test_values_of_a_season_that_the_reference_lacks_are_ranked_among_each_other():
    """July is no change against a reference of January."""
    known = np.zeros((1, 1, 10), dtype=np.int64)
    known[0, 0, :5] = 200
    ranking, random = Ranking(known), np.random.default_rng(4)
    ranking.reserve_seasons(2)
    bins = random.integers(5, 10, (2000, 1))
    ranks = ranking.rank(bins, random.random(2000), np.ones_like(bins))
    assert scipy.stats.kstest(ranks[:, 0], "uniform").pvalue > 0.01
