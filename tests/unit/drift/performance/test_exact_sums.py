"""Exact means: independent of order, and equal to an empty one when all values are removed."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.drift.performance.exact_sums import ExactMean, means_of

seeds = st.randoms(use_true_random=False)
numbers = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20)


@given(numbers, numbers, seeds)
def test_a_mean_depends_on_its_values_alone_not_on_their_order_or_on_removed_ones(values, others, chance):
    mean = ExactMean.of(values)
    for value in others:
        mean.add(value)
    for value in chance.sample(others, len(others)):
        mean.remove(value)
    assert mean.value == ExactMean.of(chance.sample(values, len(values))).value
    if values:
        assert mean.value == float(sum(map(Fraction, values)) / len(values))


def test_small_values_are_not_lost_beside_large_ones():
    mean = ExactMean.of([1e16, 1.0, -1e16])
    assert mean.value == 1 / 3


def test_a_mean_without_values_equals_a_new_one():
    mean = ExactMean.of([0.1, 0.7])
    mean.remove(0.1)
    mean.remove(0.7)
    assert mean == ExactMean()
    assert mean.value is None


def test_means_of_no_values_are_left_out():
    assert means_of({"b": ExactMean.of([1.0, 2.0]), "a": ExactMean()}) == {"b": 1.5}


@given(numbers, numbers, seeds)
def test_numbers_added_together_or_merged_are_summed_as_one_by_one(first, second, chance):
    values = chance.sample(first + second, len(first + second))
    mean, other = ExactMean(), ExactMean()
    mean.add_all(np.array(first))
    other.add_all(np.array(second))
    mean.merge(other)
    assert mean == ExactMean.of(values), "equal in a snapshot, too"
    assert mean.count == len(values)


def test_the_sum_is_rounded_once():
    mean = ExactMean()
    mean.add_all(np.array([1e16, 1.0, -1e16, 0.5]))
    assert mean.sum == 1.5
    assert ExactMean().sum == 0.0
