"""The curves in the plots of a candidate."""

import numpy as np

from services.retraining import plots

LABELS = np.array([0, 0, 1, 1], dtype=np.int8)


def test_roc_curve_of_perfect_scores_goes_through_the_corner():
    false_rates, true_rates = plots.roc_curve(LABELS, np.array([0.1, 0.2, 0.8, 0.9]))
    assert list(zip(false_rates, true_rates, strict=True)) == [(0, 0), (0, 0.5), (0, 1), (0.5, 1), (1, 1)]


def test_roc_curve_has_a_bounded_number_of_points():
    labels = np.tile(LABELS, 5000)
    false_rates, true_rates = plots.roc_curve(labels, np.linspace(0, 1, len(labels)))
    assert len(false_rates) == len(true_rates) <= plots.CURVE_POINTS_MAX + 1
    assert (false_rates[-1], true_rates[-1]) == (1, 1)


def test_reliability_curve_has_bins_of_equal_size():
    scores, shares = plots.reliability_curve(np.tile(LABELS, 25), np.tile([0.1, 0.3, 0.5, 0.7], 25))
    assert len(scores) == plots.RELIABILITY_BINS
    assert np.all(np.diff(scores) >= 0)
    assert shares.mean() == 0.5
