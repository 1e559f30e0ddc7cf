import itertools

import numpy as np
import pytest

from services.rollout import arm_difference
from services.rollout.arm_difference import KeySums
from services.rollout.evidence import log_threshold


def sums_of(values: np.ndarray, is_own: np.ndarray) -> KeySums:
    return KeySums(is_own * 1.0, is_own * values, is_own * values**2)


def test_wins_nothing_on_average_over_all_assignments_of_keys() -> None:
    """Whatever the values are, and however they depend on each other."""
    values = np.array([0.0, 1.0, 1.0, 0.3, 0.9, 0.9, 0.0, 0.5])
    for share, margin in itertools.product([0.05, 0.5, 0.9], [0.0, 0.1]):
        own = np.array(list(itertools.product([False, True], repeat=len(values))))
        chances = np.where(own, share, 1 - share).prod(axis=1)
        raised = np.clip(values + margin * own, 0, 1)  # the challenger's mean is above by at most the margin
        arms = sums_of(raised, own), sums_of(raised, ~own)
        worse = np.exp(arm_difference.log_evidence(*arms, share, margin))
        assert (chances @ worse <= 1 + 1e-9).all()
        lowered = np.clip(values, 0, 1 - margin) + margin * own  # above by exactly the margin
        arms = sums_of(lowered, own), sums_of(lowered, ~own)
        below = np.exp(arm_difference.log_evidence_below(*arms, share, margin))
        assert (chances @ below <= 1 + 1e-9).all()


def drawn(added: float, share: float = 0.1, cohorts: int = 200) -> tuple[KeySums, KeySums]:
    random = np.random.default_rng(3)
    found = []
    for mean, keys in ((0.2 + added, 1000 * share), (0.2, 1000 * (1 - share))):
        counts = np.full(cohorts, round(keys))
        totals = random.binomial(counts, mean).astype(float)
        found.append(KeySums(counts.astype(float), totals, totals))
    return found[0], found[1]


def test_higher_mean_is_found() -> None:
    assert arm_difference.log_evidence(*drawn(0.05), 0.1)[-1] > log_threshold(0.001)


def test_equal_mean_is_shown_to_be_within_a_margin() -> None:
    assert arm_difference.log_evidence_below(*drawn(0.0), 0.1, 0.05)[-1] > log_threshold(0.001)
    assert arm_difference.log_evidence(*drawn(0.0), 0.1)[-1] < log_threshold(0.05)


def test_interval_has_the_difference() -> None:
    low, high = arm_difference.interval(*drawn(0.05), 0.1, log_threshold(0.05))
    assert 0 < low < 0.05 < high < 0.1


def test_interval_without_one_of_the_arms_is_the_range() -> None:
    nothing = KeySums(np.zeros(2), np.zeros(2), np.zeros(2))
    assert arm_difference.interval(nothing, drawn(0.0, cohorts=2)[1], 0.1, 3.0) == (-1.0, 1.0)


def test_evidence_needs_only_sums() -> None:
    """A cohort's evidence is that of its requests, one by one, with the guess before the cohort."""
    values, own = np.array([0.2, 0.7, 0.1, 1.0]), np.array([True, False, True, False])
    arms = [sums_of(values, each) for each in (own, ~own)]
    first, second = (KeySums(*(part.sum(keepdims=True) for part in each)) for each in arms)
    share, guess = 0.3, arm_difference.GUESS_FIRST
    scale = max(guess * (1 - share), (1 - guess) * share)
    bets = (values - guess) * (own - share) / scale
    stakes = arm_difference.STAKES
    won = np.exp(np.outer(bets, stakes) - np.outer(bets**2, -np.log1p(-stakes) - stakes)).prod(axis=0).mean()
    assert np.exp(arm_difference.log_evidence(first, second, share)[-1]) == pytest.approx(won)
