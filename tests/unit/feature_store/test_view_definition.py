"""What changes the meaning of a view's rows changes its digest."""

import dataclasses

import pytest

from services.feature_store import view_definition
from services.feature_store.plan import BatchFile, Column, ValueType
from tests.unit.feature_store.test_online_reader import windowed

VIEW = windowed(ttl_ms=5)


@pytest.mark.parametrize("changed", [{"ttl_ms": 9}, {"batch_file": BatchFile("a.parquet", "at")}])
def test_rows_do_not_depend_on_ttl_or_batch_file(changed):
    assert view_definition.digest("p", dataclasses.replace(VIEW, **changed)) == view_definition.digest(
        "p", VIEW
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"hop_ms": 1},
        {"aggregations": VIEW.aggregations[::-1]},
        {"join_keys": (Column("desk", ValueType.STRING),)},
        {"features": VIEW.features[::-1]},
        {"name": "other"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_rows_depend_on_everything_else(changed):
    other = dataclasses.replace(VIEW, **changed)
    assert view_definition.digest("p", other) != view_definition.digest("p", VIEW)
    assert view_definition.short_digest("p", other) != view_definition.short_digest("p", VIEW)


def test_rows_depend_on_the_project():
    assert view_definition.digest("q", VIEW) != view_definition.digest("p", VIEW)


def test_the_short_digest_has_32_bits():
    assert 0 <= view_definition.short_digest("p", VIEW) < 2**32
