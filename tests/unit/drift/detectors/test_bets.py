"""Bets are fair while nothing changes, and win when the ranks change."""

import numpy as np
import pytest

from services.drift.detectors import bets


def test_bets_are_fair():
    """The mean factor of each bet is 1 over uniform ranks, in 200,000 steps of 16 rows."""
    ranks = np.random.default_rng(5).random((16 * 200_000, 1))
    factors = np.exp(bets.log_winnings(ranks, bets.group_counts(ranks, 16)))[:, 0, :]
    errors = factors.std(axis=0) / np.sqrt(len(factors))
    assert (np.abs(factors.mean(axis=0) - 1) < 4 * errors + 1e-3).all()


@pytest.mark.parametrize("shift", [0.2, -0.2])
def test_a_bet_on_the_mean_wins_when_the_mean_moves(shift: float) -> None:
    ranks = np.clip(np.random.default_rng(6).random((160, 1)) + shift, 0.001, 0.999)
    won = bets.log_winnings(ranks, bets.group_counts(ranks, 16)).sum(axis=0)[0, : len(bets.MEAN_BETS)]
    assert np.sign(bets.MEAN_BETS[won.argmax()]) == np.sign(shift)
    assert won.max() > 5


def test_groups_cover_all_ranks_and_the_outer_ones_are_finer() -> None:
    ranks = (np.arange(bets.FINEST) + 0.5)[:, None] / bets.FINEST
    counts = bets.group_counts(ranks, bets.FINEST)
    assert counts.shape == (1, 1, bets.GROUPS)
    assert counts.sum() == bets.FINEST
    assert counts[0, 0, 0] == counts[0, 0, -1] == 1


def test_a_histogram_learns_the_shares_of_recent_ranks_and_forgets_them_on_reset() -> None:
    histogram = bets.Histogram(np.ones(2))
    counts = np.zeros((2, bets.GROUPS), dtype=np.int64)
    counts[0, 5] = 1000
    histogram.learn(counts)
    assert (histogram.log_ratios[0, :, 5] > 2).all()
    assert (histogram.log_ratios[1] == 0).all()
    histogram.reset(0)
    assert (histogram.log_ratios[0] == 0).all()
