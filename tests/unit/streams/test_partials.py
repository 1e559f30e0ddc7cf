"""Exact partial aggregates for adding events, and as they are stored."""

import math
import random
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.aggregates import NUMBERS, Parts
from streams.partials import Partials
from tests.property.definition import Aggregation

PARTS = Parts.of(NUMBERS)
doubles = st.floats(allow_nan=False, allow_infinity=False)


def column_of(*tiles: Sequence[float], parts: Parts = PARTS) -> Partials:
    column = Partials(parts)
    for index, values in enumerate(tiles):
        column.insert(index)
        for value in values:
            column.add(index, value, 0)
    return column


def value(column: Partials, function: str, start: int, stop: int) -> float:
    return float(column.value(Aggregation("x", function, 0), start, stop))


@given(st.lists(doubles, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_the_order_of_the_values_changes_no_byte(values: list[float], rng: random.Random) -> None:
    assert column_of(values).to_bytes() == column_of(rng.sample(values, len(values))).to_bytes()


@given(st.lists(doubles | st.none(), min_size=1, max_size=10))
def test_appended_values_are_those_added_one_by_one(values: list[float | None]) -> None:
    appended = Partials(PARTS)
    appended.append_all(values, range(len(values)))
    tiles = [[] if value is None else [value] for value in values]
    assert appended.to_bytes() == column_of(*tiles).to_bytes()


@given(st.lists(doubles, max_size=5), st.lists(doubles, max_size=5))
def test_regrouped_tiles_are_one_tile_of_all_their_values(left: list[float], right: list[float]) -> None:
    column = column_of(left, right)
    column.regroup(0, 2, [range(2)])
    assert column.to_bytes() == column_of([*left, *right]).to_bytes()


@given(st.lists(doubles, max_size=5), st.lists(doubles, max_size=5))
def test_extending_appends_the_tiles_whatever_the_units_of_the_sums(
    left: list[float], right: list[float]
) -> None:
    column = column_of(left)
    column.extend(column_of(right))
    assert column.to_bytes() == column_of(left, right).to_bytes()


@given(st.lists(doubles, min_size=1, max_size=10))
def test_a_sum_is_rounded_once(values: list[float]) -> None:
    exact = sum(map(Fraction, values))
    try:
        expected = float(exact)
    except OverflowError:
        expected = math.inf if exact > 0 else -math.inf
    assert value(column_of(values), "sum", 0, 1) == expected


def test_no_values_have_a_count_and_nothing_else() -> None:
    column = column_of([], [])
    assert value(column, "count", 0, 2) == 0
    assert all(math.isnan(value(column, function, 0, 2)) for function in NUMBERS if function != "count")


def test_zero_has_no_sign() -> None:
    for values in ([-0.0, 0.0], [0.0, -0.0], [-0.0]):
        column = column_of(values)
        assert (
            math.copysign(1, value(column, "min", 0, 1)) == math.copysign(1, value(column, "max", 0, 1)) == 1
        )


def test_a_base_keeps_its_count_and_only_what_it_needs() -> None:
    column = column_of([1.0, 4.0], [2.0])
    column.keep_only(0, Parts.of(["max"]))
    assert [value(column, function, 0, 1) for function in ("count", "max", "sum", "min")] == [
        2,
        4,
        0,
        math.inf,
    ]
    assert value(column, "sum", 1, 2) == 2


def test_dropped_tiles_are_gone() -> None:
    column = column_of([1.0], [2.0], [4.0])
    column.drop(2)
    assert column.to_bytes() == column_of([4.0]).to_bytes()


@pytest.mark.parametrize(
    ("values", "size_bytes"),
    [([3.0], 8), ([0.5], 8), ([2.0**62], 8), ([2.0**63], 16), ([1e300, 1e-300], 256)],
)
def test_sums_take_the_least_width_that_holds_them(values: list[float], size_bytes: int) -> None:
    """Beside 8 bytes of the count and 4 of shift and width."""
    column = column_of(values, parts=Parts.of(["sum"]))
    assert len(column.to_bytes()) == 8 + 4 + size_bytes


def test_a_unit_that_is_no_longer_needed_is_not_written() -> None:
    """0.5 + 0.5 is a whole number."""
    parts = Parts.of(["sum"])
    assert column_of([0.5, 0.5], parts=parts).to_bytes()[8:] == column_of([1.0], parts=parts).to_bytes()[8:]


def test_numbers_of_numpy_are_not_needed() -> None:
    """Integers and bools have exact ratios, too."""
    assert value(column_of([1, True, 2]), "sum", 0, 1) == np.float64(4)
