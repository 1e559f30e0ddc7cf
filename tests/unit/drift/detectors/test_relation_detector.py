"""Changes of correlations are found although no feature changes, within the alarm budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.binning.bin_counts import FeatureBinner
from services.drift.detectors.correlation_differences import Differences, pair_effects
from services.drift.detectors.relation_detector import PairChange, PairDetector, PairRecovery
from services.monitoring import reference
from services.monitoring.rank_correlation import Moments, RankScorer

PATIENCE_ROWS = 20_000


class RelatedFeatures:
    """Normal features, the first two of which are correlated."""

    def __init__(self, features, rows_known, correlation, seed):
        self.random = np.random.default_rng(seed)
        self.features = features
        known = self.values(rows_known, correlation)
        self.references = [reference.of_numbers(f"f{at}", column) for at, column in enumerate(known.T)]
        self.moments = Moments.none(features)
        self.moments.add(self.scores(known))

    def values(self, rows, correlation):
        found = self.random.normal(size=(rows, self.features))
        found[:, 1] = correlation * found[:, 0] + np.sqrt(1 - correlation**2) * found[:, 1]
        return found

    def scores(self, values):
        """Return the rank scores as the drift process computes them."""
        times_ms = np.zeros(len(values), dtype=np.int64)
        return np.stack(
            [
                RankScorer(one).scores(FeatureBinner(one).bins(column), times_ms)
                for one, column in zip(self.references, values.T, strict=True)
            ],
            axis=1,
        )

    def detector(self, threshold_ms):
        return PairDetector(self.moments, threshold_ms, np.ones(self.features))


def halves(rows, seed):
    """Return scores of a feature with two values in equal shares, whose products with itself are constant."""
    return np.where(np.random.default_rng(seed).random(rows) < 0.5, -64, 64)


@pytest.mark.parametrize("sign", [1, -1])
def test_features_that_are_always_equal_or_opposite_hide_no_change_of_any_pair(sign):
    """Nothing varies in their products, so nothing but the number of rows bounds their variance."""
    random = np.random.default_rng(4)

    def scores(rows, seed, *, equal, correlation):
        first = halves(rows, seed)
        second = sign * first if equal else halves(rows, seed + 1)
        third = random.integers(-100, 101, rows)
        fourth = third if correlation else random.integers(-100, 101, rows)
        return np.stack([first, second, third, fourth], axis=1).astype(np.int8)

    known = Moments.none(4)
    half = np.repeat([-64, 64], 2000)
    known.add(np.stack([half, sign * half, *random.integers(-100, 101, (2, 4000))], axis=1).astype(np.int8))
    for pair, now in (
        ((2, 3), {"equal": True, "correlation": 1}),
        ((0, 1), {"equal": False, "correlation": 0}),
    ):
        detector = PairDetector(known, PATIENCE_ROWS * 11, np.ones(4))
        calm = detector.update(scores(4000, 5, equal=True, correlation=0), np.arange(4000))
        assert calm == []
        (_, change), *_ = detector.update(scores(2000, 6, **now), np.arange(4000, 6000))
        assert (change.first, change.second) == pair


@pytest.mark.parametrize(("before", "after", "rows"), [(0.8, -0.8, 256), (0.6, 0.0, 256), (0.0, 0.4, 768)])
def test_a_changed_correlation_is_found_although_no_feature_changes(before, after, rows):
    features = RelatedFeatures(10, 5000, before, seed=1)
    values = features.values(2000, after)
    found = features.detector(PATIENCE_ROWS * 11).update(features.scores(values), np.arange(2000))
    row, change = found[0]
    assert row < rows
    assert (change.first, change.second) == (0, 1)
    assert change.correlation_before == pytest.approx(before, abs=0.1)
    assert change.correlation == pytest.approx(after, abs=0.2)
    for one, column in zip(features.references, values.T, strict=True):
        counts = np.bincount(FeatureBinner(one).bins(column), minlength=len(one.counts))
        assert np.abs(np.cumsum(counts) / 2000 - np.cumsum(one.counts) / 5000).max() < 0.06


def test_a_changed_correlation_stands_until_it_is_back():
    """It also turns to the other side, which is the same change."""
    features = RelatedFeatures(3, 5000, 0.0, seed=2)
    values = np.concatenate([features.values(6000, each) for each in (0.6, -0.6, 0.0, 0.6)])
    detector = features.detector(PATIENCE_ROWS * 11)
    found = detector.update(features.scores(values), np.arange(len(values)))
    assert [type(each) for _, each in found] == [PairChange, PairRecovery, PairChange]
    assert [row // 6000 for row, _ in found] == [0, 2, 3]
    assert detector.standing == [(0, 1)]


@pytest.mark.parametrize("rows_known", [100, 1000])
def test_unchanged_features_raise_few_alarms(rows_known):
    """Ten alarms are allowed in ten times the patience; bets that use a bound raise far fewer."""
    alarms = 0
    for seed in range(10):
        features = RelatedFeatures(6, rows_known, 0.5, seed)
        values = features.scores(features.values(PATIENCE_ROWS, 0.5))
        alarms += len(features.detector(PATIENCE_ROWS).update(values, np.arange(PATIENCE_ROWS)))
    assert alarms <= 5


def test_rare_values_that_coincide_by_chance_are_no_change():
    """Two flags of one row in a hundred: a single row with both looks like a large correlation."""
    random = np.random.default_rng(2)
    flags = np.where(random.random((42_000, 2)) < 0.01, 100, -1).astype(np.int8)
    known = Moments.none(2)
    known.add(flags[:2000])
    assert PairDetector(known, PATIENCE_ROWS, np.ones(2)).update(flags[2000:], np.arange(40_000)) == []


@settings(max_examples=25)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=8), st.integers(0, 7), st.integers(0, 3))
def test_slices_and_restarts_change_nothing(sizes, restart_at, seed):
    features = RelatedFeatures(4, 800, 0.7, seed)
    rows = sum(sizes)
    scores = features.scores(
        np.concatenate([features.values(rows // 2, 0.7), features.values(rows - rows // 2, -0.7)])
    )
    times = np.arange(rows) * 1000
    whole = features.detector(1e6)
    expected = whole.update(scores, times)
    piecewise, found, start = features.detector(1e6), [], 0
    for number, size in enumerate(sizes):
        part = slice(start, start + size)
        found += [(start + row, change) for row, change in piecewise.update(scores[part], times[part])]
        start += size
        if number == restart_at:
            state = piecewise.state()
            piecewise = features.detector(1e6)
            piecewise.restore(state)
    assert found == expected
    assert piecewise.state() == whole.state()


def test_p_values_of_a_window_are_upper_bounds():
    """They are upper bounds, so fewer windows are significant than the level allows."""
    features = RelatedFeatures(5, 3000, 0.5, seed=4)
    small = 0
    for _ in range(200):
        window = Moments.none(5)
        window.add(features.scores(features.values(200, 0.5)))
        small += int(
            (Differences.between(features.moments, window, pair_effects(np.ones(5))).p_values() < 0.05).sum()
        )
    assert small <= 0.05 * 200 * 10
