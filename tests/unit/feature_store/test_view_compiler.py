"""Batch views and services as Feast declares them, compiled without Feast."""

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from services.feature_store import view_compiler
from services.feature_store.plan import Column, PlanError, ServiceFeature, ValueType, ViewKind

NEW_YEAR = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NEW_YEAR_US = 1_767_225_600_000_000


def field(name: str, dtype: str) -> Any:
    return SimpleNamespace(name=name, dtype=dtype)


def declared(*features: Any, keys: tuple[Any, ...] = (field("desk", "Int64"),), **attributes: Any) -> Any:
    ttl = dt.timedelta(hours=1)
    return SimpleNamespace(name="facts", features=features, entity_columns=keys, ttl=ttl, **attributes)


def test_a_batch_view_has_its_keys_and_features_sorted_by_name() -> None:
    """Feast lists the keys among the features, and in an order that changes."""
    keys = (field("shop", "String"), field("desk", "Int64"))
    view = view_compiler.batch_view(
        declared(field("width", "Float64"), *keys, field("colour", "String"), keys=keys)
    )
    assert view.kind is ViewKind.BATCH
    assert view.join_keys == (Column("desk", ValueType.INT64), Column("shop", ValueType.STRING))
    assert view.features == (Column("colour", ValueType.STRING), Column("width", ValueType.DOUBLE))
    assert view.ttl_ms == 3_600_000


@pytest.mark.parametrize(
    ("view", "named"),
    [
        (
            declared(field("x", "Map")),
            "view 'facts': field 'x': type Map is not supported; use one of String",
        ),
        (
            declared(keys=(field("desk", "Float64"),)),
            "view 'facts': entity column 'desk' must be one of string",
        ),
    ],
)
def test_types_that_cannot_be_served_are_refused_by_name(view: Any, named: str) -> None:
    with pytest.raises(PlanError, match=named):
        view_compiler.batch_view(view)


@pytest.mark.parametrize("zone", [None, dt.UTC])
def test_materialisations_are_utc_also_without_a_zone(zone: dt.tzinfo | None) -> None:
    start = NEW_YEAR.replace(tzinfo=zone)
    view = declared(
        materialization_intervals=[(start, start + dt.timedelta(seconds=1))],
        last_updated_timestamp=start + dt.timedelta(milliseconds=2.5),
    )
    written = view_compiler.materialized(view)
    assert written.ranges_us == ((NEW_YEAR_US, NEW_YEAR_US + 1_000_000),)
    assert written.by_ms == NEW_YEAR_US // 1000 + 3


def projection(name: str, *features: str, join_key_map: dict[str, str] | None = None) -> Any:
    return SimpleNamespace(
        name=name, features=[field(each, "Int64") for each in features], join_key_map=join_key_map or {}
    )


def service(*projections: Any) -> Any:
    return SimpleNamespace(name="all", feature_view_projections=projections)


def test_a_service_keeps_the_order_of_its_projections() -> None:
    references = view_compiler.references(service(projection("b", "y", "x"), projection("a", "z")), {})
    assert references == tuple(ServiceFeature(*pair) for pair in (("b", "y"), ("b", "x"), ("a", "z")))


@pytest.mark.parametrize(
    ("projections", "named"),
    [
        ([projection("a", "x", join_key_map={"desk": "table"})], "service 'all': view 'a': join_key_map"),
        ([projection("a", "x", "y"), projection("b", "y", "x")], "must be unique, not repeated: x, y"),
    ],
)
def test_what_a_service_cannot_serve_is_refused(projections: list[Any], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        view_compiler.references(service(*projections), {})
