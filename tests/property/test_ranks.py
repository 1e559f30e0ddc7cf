"""Laws of the ranks: uniform while nothing changes, whatever the reference, and the same in any slices."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.detectors import bets
from services.drift.detectors.e_detector import EDetector
from services.drift.detectors.ranks import Ranking

FEATURES, SEASONS, CELLS = 2, 3, 6


def drawn(rows, seed):
    random = np.random.default_rng(seed)
    shape = (rows, FEATURES)
    return random.integers(0, CELLS, shape), random.random(rows), random.integers(0, SEASONS, shape)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 200), st.lists(st.integers(0, 200), max_size=4), st.integers(0, 99))
def test_ranks_are_those_counted_one_by_one_in_any_slices(rows, cuts, seed):
    """Among the values of the same season: the reference's, and those that came before."""
    cells, chances, seasons = drawn(rows, seed)
    known = np.random.default_rng(seed).integers(0, 9, (FEATURES, SEASONS, CELLS))
    ranking, parts = Ranking(known), []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), rows], strict=True):
        piece = slice(start, end)
        parts.append(ranking.rank(cells[piece], chances[piece], seasons[piece]))
    found, counts = np.concatenate(parts)[:rows], known.copy()
    for row in range(rows):
        for feature in range(FEATURES):
            mine = counts[feature, seasons[row, feature]]
            cell = cells[row, feature]
            exact = (mine[:cell].sum() + chances[row] * (mine[cell] + 1)) / (mine.sum() + 1)
            assert found[row, feature] == pytest.approx(exact, abs=1e-6)
            mine[cell] += 1


@pytest.mark.parametrize("known_rows", [0, 5, 1000])
def test_ranks_are_uniform_and_independent_whatever_the_size_of_the_reference(known_rows):
    """Over 400 references and their streams; ranks against a small reference alone would not be."""
    random, firsts, means = np.random.default_rng(3), [], []
    for _ in range(400):
        known = random.multinomial(known_rows, [0.5, 0.3, 0.2])[None, None, :]
        ranks = Ranking(known).rank(random.choice(3, (100, 1), p=[0.5, 0.3, 0.2]), random.random(100))
        firsts.append(ranks[0, 0])
        means.append((ranks.mean() - 0.5) * np.sqrt(12 * 100))
    assert scipy.stats.kstest(firsts, "uniform").pvalue > 0.01
    assert scipy.stats.kstest(means, "norm").pvalue > 0.01


def test_season_that_the_reference_lacks_says_nothing_of_it():
    """July against a reference of January: ranked among itself, it is no change."""
    known = np.zeros((1, 1, 10), dtype=np.int64)
    known[0, 0, :5] = 200
    ranking, random = Ranking(known), np.random.default_rng(4)
    ranking.reserve_seasons(2)
    cells = random.integers(5, 10, (2000, 1))
    ranks = ranking.rank(cells, random.random(2000), np.ones_like(cells))
    assert scipy.stats.kstest(ranks[:, 0], "uniform").pvalue > 0.01


def test_bets_are_fair():
    """Each wins a factor of 1 in the mean over uniform ranks: 200,000 steps of 16."""
    ranks = np.random.default_rng(5).random((16 * 200_000, 1))
    factors = np.exp(bets.log_winnings(ranks, bets.group_counts(ranks, 16)))[:, 0, :]
    errors = factors.std(axis=0) / np.sqrt(len(factors))
    assert (np.abs(factors.mean(axis=0) - 1) < 4 * errors + 1e-3).all()


def test_mean_time_between_false_alarms_is_at_least_the_threshold():
    """40 streams over ten times the threshold: at most 400 alarms on average; most often far less."""
    streams, threshold_rows = 40, 1000
    ranks = np.random.default_rng(6).random((10 * threshold_rows, streams))
    changes = EDetector(streams, threshold_rows).update(ranks, np.arange(len(ranks)))
    assert 20 < len(changes) < 10 * streams


def test_interval_holds_the_beginning_of_a_change_nine_times_in_ten():
    """Half a standard deviation after 1,000 calm rows, 100 times."""
    ranks = np.random.default_rng(7).random((2000, 100))
    ranks[1000:] = scipy.stats.norm.cdf(scipy.stats.norm.ppf(ranks[1000:]) + 0.5)
    changes = EDetector(100, 10_000_000).update(ranks, np.arange(2000))
    firsts = {change.stream: change for change in reversed(changes)}
    held = [change.since_from_ms <= 1000 <= change.since_to_ms for change in firsts.values()]
    assert len(held) == 100
    assert sum(held) >= 80


def test_values_far_out_of_range_are_found_though_their_share_is_small():
    """5 % of new categories, of which 2,000 known rows had none."""
    random = np.random.default_rng(8)
    known = np.array([[[1000, 1000, 0]]])
    cells = random.integers(0, 2, (2000, 1))
    cells[1000:][random.random((1000, 1)) < 0.05] = 2
    changes = EDetector(1, 10_000_000).update(
        Ranking(known).rank(cells, random.random(2000)), np.arange(2000)
    )
    assert 1000 < changes[0].detected_at_ms < 1500
