"""An entity expires once no value of it can be served any more, and not before."""

import dataclasses
from typing import Any

import pytest

from services.feature_store.plan import Column, FeatureAggregation, StreamSource, ValueType, View, ViewKind
from services.features import row_expiry
from streams import codec

HOUR_MS = 3_600_000
MARGIN_HOURS = row_expiry.MARGIN_MS // HOUR_MS
SHOP, DESK = (Column("shop", ValueType.STRING),), (Column("desk", ValueType.STRING),)
SOURCE = StreamSource("orders", "at", codec.parse_ddl("shop string not null, at timestamp"), ("shop",), 0)


def view(kind: ViewKind = ViewKind.LATEST, ttl_hours: int = 5, **changed: Any) -> View:
    made = View("v", kind, SHOP, (Column("amount", ValueType.DOUBLE),), ttl_hours * HOUR_MS, SOURCE)
    return dataclasses.replace(made, **changed)


def windowed(hours: int, ttl_hours: int = 5) -> View:
    item = FeatureAggregation("amount", "amount", "sum", hours * HOUR_MS)
    return view(ViewKind.WINDOWED, ttl_hours, aggregations=(item,))


@pytest.mark.parametrize(
    ("views", "hours"),
    [
        ([view()], 5),
        ([view(), view(ttl_hours=7)], 7),
        ([windowed(3)], 5),
        ([windowed(30)], 30),
        ([view(source=dataclasses.replace(SOURCE, lateness_ms=2 * HOUR_MS))], 7),
        ([view(), view(ttl_hours=900, join_keys=DESK)], 5),
    ],
    ids=["ttl", "longest ttl", "ttl beyond the window", "window beyond the ttl", "lateness", "other entity"],
)
def test_the_longest_reach_of_the_entitys_views_counts(views: list[View], hours: int) -> None:
    assert row_expiry.seconds(views, views[0]) == (hours + MARGIN_HOURS) * 3600


@pytest.mark.parametrize(
    "other",
    [view(ttl_hours=0), windowed(0), view(ViewKind.BATCH)],
    ids=["without a ttl", "over the whole life", "written by Feast"],
)
def test_an_entity_that_any_view_keeps_never_expires(other: View) -> None:
    assert row_expiry.seconds([view(), other], view()) == 0
