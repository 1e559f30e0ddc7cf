"""Intervals of a mean: at one time, and at all times together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.performance import confidence_intervals

quick = settings(max_examples=60)


def batches_of(values, size):
    return [values[start : start + size] for start in range(0, len(values), size)]


def misses(streams, size, alpha):
    """Count the streams whose interval ever misses the running mean of the expectations."""
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
def test_a_confidence_sequence_ever_misses_with_at_most_its_probability(kind):
    """With alpha = 0.2 a defect shows in 150 streams: intervals of one fixed time miss most of them."""
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


def test_an_interval_narrows_with_the_values_to_about_twice_that_of_one_fixed_time():
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
def test_at_the_excess_the_mean_over_the_stakes_is_the_limit(squares, alpha):
    found = confidence_intervals.excess_max(squares, alpha)
    stakes = 0.75 * 2.0 ** (-np.arange(28) / 2)
    logs = stakes * found + (np.log(1 - stakes) + stakes) * squares
    assert np.log(np.mean(np.exp(logs - logs.max()))) + logs.max() == pytest.approx(
        np.log(2 / alpha), rel=1e-6
    )


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(0, 60))
def test_the_sums_of_a_batch_are_sufficient(values, before):
    """The guess is the one made before the batch."""
    array, sequence = np.array(values), confidence_intervals.MeanConfidenceSequence()
    sequence.add(before, 0.3 * before, 0.2 * before)
    guess, squares = (0.5 + 0.3 * before) / (1 + before), sequence.squares
    sequence.add(len(values), float(array.sum()), float((array**2).sum()))
    assert sequence.squares == pytest.approx(squares + ((array - guess) ** 2).sum(), abs=1e-9)


def test_before_the_first_value_the_interval_is_the_whole_range():
    assert confidence_intervals.MeanConfidenceSequence().interval() == (0.0, 1.0)


def test_a_few_equal_values_do_not_make_a_mean_certain():
    low, high = confidence_intervals.normal_interval(4, 2.0, 1.0, half_range=0.5)
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * confidence_intervals.NORMAL_QUANTILE * (0.25 / 4 / 4) ** 0.5)
