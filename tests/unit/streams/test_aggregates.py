"""Which partial aggregates functions need, and how exact sums become values."""

import math
import statistics
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.aggregates import CELLS, FUNCTIONS, Parts, from_sums
from streams.distincts import Distincts
from streams.ends import Firsts, Lasts
from streams.quantiles import Quantiles

SHIFT = 3
scaled = st.lists(st.integers(-(2**60), 2**60), min_size=1, max_size=10)


def test_functions_share_what_they_need() -> None:
    assert Parts.of(["count"]) == Parts(sums=False, squares=False, minima=False, maxima=False, cells=())
    assert Parts.of(["mean", "max"]) == Parts(sums=True, squares=False, minima=False, maxima=True, cells=())
    assert Parts.of(["stddev", "min"]) == Parts(sums=True, squares=True, minima=True, maxima=False, cells=())
    assert Parts.of(["count_distinct", "last", "approx_count_distinct"]).cells == (Lasts, Distincts)


def test_every_function_with_cells_has_a_kind_of_cell_and_cells_have_one_order() -> None:
    assert set(CELLS) < set(FUNCTIONS)
    assert Parts.of(FUNCTIONS).cells == (Firsts, Lasts, Distincts, Quantiles)


@given(scaled)
def test_values_are_those_of_exact_rational_numbers_rounded_once(numbers: list[int]) -> None:
    exact = [Fraction(number, 1 << SHIFT) for number in numbers]
    count, total, squares = len(numbers), sum(numbers), sum(number * number for number in numbers)
    assert from_sums("sum", count, total, squares, SHIFT) == float(sum(exact))
    assert from_sums("mean", count, total, squares, SHIFT) == float(sum(exact) / count)
    if count > 1:
        variance = float(statistics.variance(exact))
        assert from_sums("var", count, total, squares, SHIFT) == variance
        assert from_sums("std", count, total, squares, SHIFT) == math.sqrt(variance)


@pytest.mark.parametrize("function", ["std", "stddev", "var", "variance"])
def test_a_sample_of_one_has_no_variance(function: str) -> None:
    assert math.isnan(from_sums(function, 1, 5, 25, 0))


def test_a_sum_outside_the_range_of_doubles_is_infinite() -> None:
    assert from_sums("sum", 2, 2**1100, 0, 0) == math.inf
    assert from_sums("mean", 2, -(2**1100), 0, 0) == -math.inf
