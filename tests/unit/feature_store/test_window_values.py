"""Values of windows in the types that features declare."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature_store.plan import Column, FeatureAggregation, ValueType, View, ViewKind
from services.feature_store.window_values import WindowValues, fitted
from streams.tiles import Tiles

NUMBERS = (ValueType.DOUBLE, ValueType.FLOAT, ValueType.INT64, ValueType.INT32)


def values_of(*kinds: ValueType, function: str = "last") -> WindowValues:
    features = tuple(Column(kind, kind) for kind in kinds)
    aggregations = tuple(FeatureAggregation(kind, "x", function, 0) for kind in kinds)
    return WindowValues(View("v", ViewKind.WINDOWED, (), features, 0, None, aggregations, 1000))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (ValueType.DOUBLE, 0.1, 0.1),
        (ValueType.FLOAT, 0.1, 0.10000000149011612),
        (ValueType.FLOAT, 1e300, math.inf),
        (ValueType.FLOAT, -1e300, -math.inf),
        (ValueType.INT64, 3.0, 3),
        (ValueType.INT64, 1e300, 2**63 - 1024),
        (ValueType.INT64, -math.inf, -(2**63)),
        (ValueType.INT32, 1e300, 2**31 - 1),
        (ValueType.INT32, -1e10, -(2**31)),
        (ValueType.BOOL, 1.0, True),
        (ValueType.BOOL, 0.0, False),
        (ValueType.BOOL, math.nan, None),
        (ValueType.STRING, "mill", "mill"),
        (ValueType.STRING, math.nan, None),
    ],
)
def test_a_value_is_of_its_features_type(kind: ValueType, value: float | str, expected: object) -> None:
    found = fitted(kind, value)
    assert (found, type(found)) == (expected, type(expected))


@given(st.lists(st.floats().map(lambda value: float(np.rint(value))), min_size=1, max_size=10))
def test_a_column_holds_what_its_single_values_are(numbers: list[float]) -> None:
    columns = values_of(*NUMBERS).fit([np.array(numbers)] * len(NUMBERS))
    for kind, column in zip(NUMBERS, columns, strict=True):
        assert [None if math.isnan(value) else value for value in column] == [
            fitted(kind, value) for value in numbers
        ]


def test_a_column_of_texts_has_none_for_null_also_where_no_tile_knows_a_text() -> None:
    values = values_of(ValueType.STRING)
    (column,) = values.missing(3)
    column[1:] = np.array(["mill", math.nan], dtype=object)
    assert values.fit([column])[0].tolist() == [None, "mill", None]
    assert values.fit([np.full(2, math.nan)])[0].tolist() == [None, None]


def test_the_newest_values_of_tiles_are_fitted_too() -> None:
    values = values_of(*NUMBERS, function="sum")
    tiles = Tiles(values.layout)
    for amount in (2.0**31, 1.0, 0.5):
        tiles.add(5, (amount,))
    assert values.newest(tiles) == [2.0**31 + 1.5, 2.0**31, 2**31 + 1, 2**31 - 1]
