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


def test_features_with_different_numbers_of_bins_and_seasons_are_ranked_as_if_alone():
    random = np.random.default_rng(5)
    known = [random.integers(0, 9, (1, 3)), random.integers(0, 9, (4, 300))]
    bins = np.stack([random.integers(0, 3, 500), random.integers(0, 300, 500)], axis=1)
    seasons = np.stack([np.zeros(500, dtype=np.intp), np.arange(500) // 70], axis=1)
    tie_breakers = random.random(500)
    together = Ranking(known)
    found = together.rank(bins, tie_breakers, seasons)
    for feature in (0, 1):
        alone = Ranking([known[feature]])
        part = slice(feature, feature + 1)
        assert (alone.rank(bins[:, part], tie_breakers, seasons[:, part]) == found[:, part]).all()
        assert (alone.known[0] == together.known[feature]).all()
    assert [each.shape for each in together.known] == [(1, 3), (8, 300)]


def test_a_reset_replaces_the_values_of_all_seasons_of_one_feature():
    ranking = Ranking([np.array([[1, 1]]), np.array([[1, 1]])])
    for season in (0, 1, 2):
        ranking.rank(np.array([[0, 1]]), np.array([0.5]), np.array([[season, season]]))
    ranking.reset(0, np.array([[1, 1]]))
    assert ranking.known[0].tolist() == [[1, 1], [0, 0], [0, 0]]
    assert ranking.known[1].tolist() == [[1, 2], [0, 1], [0, 1]]


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
    bins = random.integers(5, 10, (2000, 1))
    ranks = ranking.rank(bins, random.random(2000), np.ones_like(bins))
    assert scipy.stats.kstest(ranks[:, 0], "uniform").pvalue > 0.01
