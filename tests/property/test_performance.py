"""Performance by cohorts: intervals that hold at all times, labels that come late, estimates before them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.performance import confidence_intervals, performance_estimation
from services.drift.performance.cohorts import LabelledRow, PredictionCohort
from services.drift.performance.label_maturity import DELAY_CELLS, LabelDelays
from services.monitoring.model_metrics import MeasureRange

HOUR_MS = 3_600_000
quick = settings(max_examples=60, deadline=None)


def batches_of(values, size):
    return [values[start : start + size] for start in range(0, len(values), size)]


def misses(streams, size, alpha):
    """Count the streams whose interval ever misses the running mean of what was to be expected."""
    missed = 0
    for means, values in streams:
        sequence, seen, expected = confidence_intervals.MeanConfidenceSequence(), 0, np.cumsum(means)
        for batch in batches_of(values, size):
            sequence.add(len(batch), float(batch.sum()), float((batch**2).sum()))
            seen += len(batch)
            low, high = sequence.interval(alpha)
            if not low <= expected[seen - 1] / seen <= high:
                missed += 1
                break
    return missed


@pytest.mark.parametrize("kind", ["errors", "losses", "drifting"])
def test_a_sequence_of_intervals_ever_misses_at_most_as_often_as_it_says(kind):
    """At alpha = 0.2, so that a defect would show in 150 streams: intervals of one time miss most of them."""
    chance = np.random.default_rng(5)
    length, alpha, streams = 3000, 0.2, []
    for _ in range(150):
        means = np.full(length, 0.15)
        if kind == "drifting":
            means = 0.15 + 0.6 * (np.arange(length) > chance.integers(length))
        values = (
            chance.beta(0.6, 3.4, length)
            if kind == "losses"
            else (chance.random(length) < means).astype(float)
        )
        streams.append((means, values))
    assert misses(streams, 100, alpha) <= 150 * alpha
    normal = 0
    for means, values in streams:
        counts = np.arange(100, length + 1, 100)
        mean = np.cumsum(values)[counts - 1] / counts
        deviation = np.sqrt(np.maximum(np.cumsum(values**2)[counts - 1] / counts - mean**2, 1e-12) / counts)
        expected = np.cumsum(means)[counts - 1] / counts
        normal += bool((abs(mean - expected) > 1.2816 * deviation).any())  # 80 % at one time
    assert normal > 150 * alpha


def test_an_interval_narrows_with_the_values_and_is_not_much_wider_than_at_one_time():
    chance = np.random.default_rng(1)
    sequence, widths = confidence_intervals.MeanConfidenceSequence(), []
    for _ in range(100):
        batch = (chance.random(1000) < 0.2).astype(float)
        sequence.add(1000, float(batch.sum()), float(batch.sum()))
        low, high = sequence.interval()
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    at_one_time = 2 * confidence_intervals.NORMAL_QUANTILE * np.sqrt(0.16 / 100_000)
    assert at_one_time < widths[-1] < 2.2 * at_one_time


@quick
@given(st.floats(0, 1e6), st.floats(0.001, 0.5))
def test_the_excess_is_where_the_mean_stake_reaches_its_limit(squares, alpha):
    found = confidence_intervals.excess_max(squares, alpha)
    stakes = 0.75 * 2.0 ** (-np.arange(28) / 2)
    logs = stakes * found + (np.log(1 - stakes) + stakes) * squares
    assert np.log(np.mean(np.exp(logs - logs.max()))) + logs.max() == pytest.approx(
        np.log(2 / alpha), rel=1e-6
    )


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(0, 60))
def test_a_batch_tells_by_its_sums_what_its_values_tell(values, before):
    """The guess is that of before the batch."""
    array, sequence = np.array(values), confidence_intervals.MeanConfidenceSequence()
    sequence.add(before, 0.3 * before, 0.2 * before)
    guess, squares = (0.5 + 0.3 * before) / (1 + before), sequence.squares
    sequence.add(len(values), float(array.sum()), float((array**2).sum()))
    assert sequence.squares == pytest.approx(squares + ((array - guess) ** 2).sum(), abs=1e-9)


def shares_of(delays, ages_ms):
    found = delays.shares(np.array(ages_ms))
    assert found is not None
    return found.tolist()


@quick
@given(st.lists(st.integers(0, 48 * HOUR_MS), min_size=100, max_size=200), st.integers(0, 48 * HOUR_MS))
def test_maturity_never_counts_a_label_that_may_not_have_come(delays_ms, age_ms):
    delays = LabelDelays(48 * HOUR_MS)
    counts = np.zeros(DELAY_CELLS, dtype=np.int64)
    for delay_ms in delays_ms:
        counts[delays.cell_of(delay_ms)] += 1
    delays.learn(counts)
    share, whole = shares_of(delays, [age_ms, 48 * HOUR_MS])
    assert share <= sum(delay_ms <= age_ms for delay_ms in delays_ms) / len(delays_ms)
    assert whole == 1


def test_maturity_is_unknown_before_there_are_delays_and_follows_when_they_change():
    delays, counts = LabelDelays(HOUR_MS), np.zeros(DELAY_CELLS, dtype=np.int64)
    assert delays.shares(np.array([HOUR_MS])) is None
    counts[10] = 90_000
    delays.learn(counts)
    counts[:] = 0
    counts[-1] = 90_000
    for _ in range(4):
        delays.learn(counts)
    (share,) = shares_of(delays, [HOUR_MS - 1])
    assert share < 0.1


ROWS = st.lists(
    st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 3), st.floats(-2, 9), st.booleans()),
    max_size=40,
)


@quick
@given(ROWS, st.integers(0, 40))
def test_sums_of_parts_are_the_sums_of_the_whole(rows, cut):
    def cohort(*parts):
        made = PredictionCohort(
            0, HOUR_MS, 1, cells=4, measures=2, ranges=[MeasureRange(0, 4), MeasureRange(0, 1)]
        )
        for part in parts:
            labelled = [
                LabelledRow([segment] if segment else [], cell, cell, float(right), [value, float(right)])
                for segment, cell, value, right in part
            ]
            if labelled:
                made.add_labels(labelled)
        return made.state()

    whole, parts = cohort(rows), cohort(rows[cut:][::-1], rows[:cut])
    assert parts.cells == whole.cells
    assert parts.delays == whole.delays
    assert parts.segments == whole.segments


def estimated(scores, counts):
    found = scores.estimate(counts)
    assert found is not None
    return found


def nannyml_accuracy(probabilities, answers):
    """CBPE as NannyML's documentation has it: an answer is right with the probability of its class."""
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


def test_first_scores_make_the_edges_where_there_is_no_reference():
    scores = performance_estimation.PerformanceEstimator(1)
    chance = np.random.default_rng(2)
    for score in chance.normal(50, 10, performance_estimation.SCORES_FIRST).tolist():
        assert not scores.cells
        scores.add_first(score)
    assert scores.cells == performance_estimation.CELLS_MAX
    restored = performance_estimation.PerformanceEstimator(1, scores.state())
    assert restored.state() == scores.state()
    assert scores.edges == sorted(scores.edges)


def test_an_estimate_is_trusted_by_how_far_earlier_ones_were_off():
    found = performance_estimation.EstimateTracker(2)
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
