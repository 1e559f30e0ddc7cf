"""Performance estimated from scores, and how far estimates are trusted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.performance import performance_estimation

quick = settings(max_examples=60)


def estimated(scores, counts):
    found = scores.estimate(counts)
    assert found is not None
    return found


def nannyml_accuracy(probabilities, answers):
    """CBPE as in NannyML's documentation: a prediction is correct with the probability of its class."""
    return np.mean(np.where(answers == 1, probabilities, 1 - probabilities))


def nannyml_auc(scores, probabilities):
    """Expected rates at every threshold from calibrated probabilities, then the trapezoidal rule."""
    order = np.argsort(-scores, kind="stable")
    ranked, expected = scores[order], probabilities[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.concatenate([[0], np.cumsum(expected)[ends]]) / expected.sum()
    alarms = np.concatenate([[0], np.cumsum(1 - expected)[ends]]) / (1 - expected).sum()
    return np.trapezoid(hits, alarms)


@pytest.mark.parametrize("seed", range(3))
def test_estimates_of_a_binary_model_are_those_of_cbpe_on_binned_calibration(seed):
    chance = np.random.default_rng(seed)
    edges = [0.2, 0.4, 0.6, 0.8]
    past = chance.random(5000)
    truths = chance.random(5000) < past**2  # scores are too high
    answers = past >= 0.5
    scores = performance_estimation.PerformanceEstimator(2)
    columns = np.column_stack(
        [np.ones(5000), truths, answers == truths, np.where(answers, 3.0 * ~truths, 10.0 * truths)]
    )
    sums = np.zeros((5, 4))
    np.add.at(sums, np.searchsorted(edges, past, side="right"), columns)
    scores.follow(edges, sums.tolist())
    calibrated = sums[:, 1] / sums[:, 0]

    new = chance.beta(2, 1, 3000)  # other requests than before
    cells = np.searchsorted(edges, new, side="right")
    counts = np.bincount(cells, minlength=5)
    accuracy, cost = estimated(scores, counts)
    # Bins straddle the threshold: the share of each answer in a bin is that of the labelled past.
    right = np.array(
        [np.mean((answers == truths)[np.searchsorted(edges, past, side="right") == c]) for c in range(5)]
    )
    assert accuracy == pytest.approx(right[cells].mean())
    sure = new[(cells != 2)]
    outside = estimated(scores, np.where(np.arange(5) == 2, 0, counts))
    assert outside[0] == pytest.approx(nannyml_accuracy(calibrated[cells[cells != 2]], sure >= 0.5))
    assert scores.estimate_auc(counts) == pytest.approx(nannyml_auc(cells.astype(float), calibrated[cells]))
    realised = chance.random(3000) < new**2
    assert accuracy == pytest.approx(np.mean((new >= 0.5) == realised), abs=0.03)
    costs = np.where(new >= 0.5, 3.0 * ~realised, 10.0 * realised)
    assert cost == pytest.approx(costs.mean(), abs=0.25)


@quick
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=30))
def test_auc_of_cells_is_the_share_of_pairs_in_order(cells):
    labels = np.array([max(pair) for pair in cells], dtype=float)
    positives = np.array([min(pair) for pair in cells], dtype=float)
    found = performance_estimation.auc(labels, positives)
    pairs = right = 0.0
    for above in range(len(cells)):
        for below in range(len(cells)):
            product = positives[above] * (labels - positives)[below]
            pairs += product
            right += product * (1.0 if above > below else 0.5 if above == below else 0.0)
    assert found == (pytest.approx(right / pairs) if pairs else None)


def test_without_a_reference_the_first_scores_make_the_edges():
    scores = performance_estimation.PerformanceEstimator(1)
    chance = np.random.default_rng(2)
    for score in chance.normal(50, 10, performance_estimation.SCORES_FIRST).tolist():
        assert not scores.cells
        scores.add_first(score)
    assert scores.cells == performance_estimation.CELLS_MAX
    restored = performance_estimation.PerformanceEstimator(1, scores.state())
    assert restored.state() == scores.state()
    assert scores.edges == sorted(scores.edges)


def test_the_error_of_estimates_is_the_largest_mean_gap_of_a_recent_block():
    found = performance_estimation.EstimateTracker(2, 1000)
    for start, gap in enumerate((0.1, -0.3, 0.02, 0.02)):
        assert found.error is None
        found.add_gap(100, gap)
        found.add_estimate(start, 10, 0.5 + start)
    assert found.error == pytest.approx(0.1)
    assert found.recent == pytest.approx(3.0)
    assert found.recent_start_ms == 2
    for _ in range(10):
        found.add_gap(100, 0.01)
    assert found.error == pytest.approx(0.01)


def test_nothing_is_estimated_without_predictions_or_with_too_few_labels():
    scores = performance_estimation.PerformanceEstimator(1)
    scores.follow([0.5])
    assert scores.estimate(np.array([1, 1])) is None
    scores.learn(np.array([[performance_estimation.POOL_LABELS_MIN, 0, 5.0], [0, 0, 0]]))
    assert scores.estimate(np.array([0, 0])) is None
    assert estimated(scores, np.array([0, 3])) == [pytest.approx(0.1)]


def test_cells_with_few_labels_are_pooled_with_their_neighbours():
    assert performance_estimation.pools_of(np.array([30.0, 30, 60, 10])).tolist() == [0, 0, 1, 1]


def test_recent_estimates_do_not_reach_back_over_months():
    found = performance_estimation.EstimateTracker(2, 1000)
    found.add_estimate(0, 100, 0.4)
    found.add_estimate(1000, 100, 0.6)
    assert (found.recent, found.recent_start_ms) == (0.5, 0)
    found.add_estimate(9000, 100, 0.6)
    assert found.recent is None


def test_scores_without_known_results_are_outside():
    estimator = performance_estimation.PerformanceEstimator(measures=1)
    estimator.follow(edges=[0.2, 0.4, 0.6], sums=[[100, 10, 90], [100, 30, 70], [100, 50, 50], [0, 0, 0]])
    assert estimator.outside_share(np.array([10, 10, 10, 10])) == 0.25
    assert estimator.outside_share(np.array([10, 10, 10, 0])) == 0.0
    estimator.learn(np.array([[0.0] * 3] * 3 + [[100, 95, 95]]))
    assert estimator.outside_share(np.array([10, 10, 10, 10])) == 0.0
    found = performance_estimation.EstimateTracker(2, 1000)
    found.add_estimate(0, 100, 0.4, 0.5)
    found.add_estimate(1, 300, 0.4, 0.1)
    assert found.outside == pytest.approx(0.2)
