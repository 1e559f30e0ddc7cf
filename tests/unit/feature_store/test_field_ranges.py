"""Which numbers a source's fields may have follows from the views of the source."""

from typing import Any

import pytest

from services.feature_store import field_ranges
from services.feature_store.plan import Column, FeatureAggregation, StreamSource, ValueType, View, ViewKind
from streams import codec

FIELDS = codec.parse_ddl("at timestamp not null, who long not null, count long, ratio double, name string")
SOURCE = StreamSource("orders", "at", FIELDS, ("who",), 0)


def view(kind: ViewKind, key: ValueType = ValueType.INT64, **features: ValueType) -> View:
    columns = tuple(Column(name, type_) for name, type_ in features.items())
    return View("v", kind, (Column("who", key),), columns, 0, SOURCE)


def windowed(function: str, type_: ValueType) -> View:
    item = FeatureAggregation("f", "count", function, 1000)
    return View("v", ViewKind.WINDOWED, (), (Column("f", type_),), 0, SOURCE, (item,))


def test_latest_values_must_fit_their_types() -> None:
    latest = view(ViewKind.LATEST, count=ValueType.INT32, ratio=ValueType.FLOAT, name=ValueType.STRING)
    assert field_ranges.of_views([latest]) == {"count": codec.INT32_RANGE, "ratio": codec.FLOAT32_RANGE}


def test_whole_range_of_a_type_needs_no_check() -> None:
    wide = view(ViewKind.LATEST, count=ValueType.INT64, ratio=ValueType.DOUBLE)
    assert field_ranges.of_views([wide]) == {}
    assert field_ranges.of_views([view(ViewKind.LATEST, count=ValueType.FLOAT)]) == {}


@pytest.mark.parametrize("function", ["first", "last", "min", "max"])
def test_integers_that_a_window_returns_must_be_exact_in_a_double(function: str) -> None:
    assert field_ranges.of_views([windowed(function, ValueType.INT64)]) == {"count": codec.EXACT_RANGE}
    assert field_ranges.of_views([windowed(function, ValueType.DOUBLE)]) == {}


def test_sums_and_counts_take_all_integers() -> None:
    assert field_ranges.of_views([windowed("sum", ValueType.INT64), windowed("count", ValueType.INT64)]) == {}


def test_narrowest_of_all_views_counts() -> None:
    views = [windowed("last", ValueType.INT64), view(ViewKind.LATEST, count=ValueType.INT32)]
    assert field_ranges.of_views(views) == {"count": codec.INT32_RANGE}


@pytest.mark.parametrize(
    ("key", "ranges"), [(ValueType.INT32, {"who": codec.INT32_RANGE}), (ValueType.INT64, {})]
)
def test_join_keys_of_a_request_must_fit_their_types(key: ValueType, ranges: dict[str, Any]) -> None:
    assert field_ranges.of_join_keys([view(ViewKind.BATCH, key, other=ValueType.FLOAT)], FIELDS) == ranges
