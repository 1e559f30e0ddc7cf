"""Rank correlations of two sets of rows: what is compared, and by which bounds."""

import numpy as np
import pytest

from services.drift.detectors.correlation_differences import (
    PAIRS_SHOWN_MAX,
    Differences,
    compare,
    pair_effects,
)
from services.monitoring.rank_correlation import Moments


def moments(scores):
    found = Moments.none(scores.shape[1])
    found.add(scores.astype(np.int8))
    return found


def independent(rows, features, seed):
    return np.random.default_rng(seed).integers(-100, 101, (rows, features))


def test_a_pair_whose_correlation_changed_is_shown_first_and_alone_has_drifted():
    known, latest = independent(5000, 6, 1), independent(1000, 6, 2)
    latest[:, 4] = latest[:, 2]
    found = compare(moments(known), moments(latest), np.ones(6), list("abcdef"), 0.01)
    assert found is not None
    assert [(each.first, each.second) for each in found.pairs if each.drifted] == [("c", "e")]
    assert (found.pairs[0].first, len(found.pairs)) == ("c", PAIRS_SHOWN_MAX)
    assert found.pairs[0].correlation == pytest.approx(1.0, abs=0.05)
    assert found.p_value < 0.01


def test_a_feature_without_variation_has_no_difference():
    known = independent(500, 2, 1)
    known[:, 1] = 7
    differences = Differences.between(
        moments(known), moments(independent(500, 2, 2)), pair_effects(np.ones(2))
    )
    assert (differences.varying.tolist(), differences.p_values().tolist()) == ([False], [1.0])


def test_without_a_pair_or_known_rows_nothing_is_compared():
    assert (
        compare(moments(independent(9, 1, 1)), moments(independent(9, 1, 2)), np.ones(1), ["a"], 0.01) is None
    )
    assert compare(Moments.none(2), moments(independent(9, 2, 2)), np.ones(2), ["a", "b"], 0.01) is None


def test_effect_of_a_pair_is_measured_or_the_geometric_mean_of_both_features():
    assert pair_effects(np.array([4.0, 9.0])).tolist() == [6.0]
    assert pair_effects(np.array([4.0, 9.0]), [2.5]).tolist() == [2.5]
    assert pair_effects(np.array([0.5, 0.5])).tolist() == [1.0]
