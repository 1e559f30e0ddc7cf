"""Feast's aggregations and the tags beside them, compiled to a plan."""

import dataclasses
import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from services.feature_store import aggregation_compiler
from services.feature_store.plan import Column, FeatureAggregation, PlanError, ValueType
from streams import codec
from streams.spans import WindowChange

HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)
HOUR_MS = 3_600_000
FIELDS = {
    field.name: field
    for field in codec.parse_ddl(
        "event_time timestamp not null, amount double, items long, note string, paid boolean"
    )
}


@dataclasses.dataclass
class Declared:
    """Like Feast's Aggregation, which uses the window as the slide if none is given."""

    column: str
    function: str
    time_window: dt.timedelta | None = HOUR
    slide_interval: dt.timedelta | None = None
    name: str = "out"

    def __post_init__(self) -> None:
        self.slide_interval = self.slide_interval or self.time_window

    def resolved_name(self, _: Any) -> str:
        return self.name


def view(*items: Declared, tags: dict[str, str] | None = None, hop: dt.timedelta | None = 5 * MINUTE) -> Any:
    return SimpleNamespace(name="orders", aggregations=items, tags=tags or {}, tiling_hop_size=hop)


def compiled(*items: Declared, **options: Any) -> tuple[FeatureAggregation, ...]:
    return aggregation_compiler.aggregations(view(*items, **options), FIELDS)


def test_a_window_without_a_slide_slides_with_the_time() -> None:
    assert compiled(Declared("amount", "last")) == (FeatureAggregation("out", "amount", "last", HOUR_MS),)


def test_a_shorter_slide_declares_a_hopping_window() -> None:
    (item,) = compiled(Declared("amount", "sum", slide_interval=10 * MINUTE))
    assert (item.window_ms, item.slide_ms) == (HOUR_MS, 600_000)


def test_tags_declare_what_an_aggregation_cannot() -> None:
    tumbling, session, faster, slow = compiled(
        Declared("amount", "sum", name="tumbling"),
        Declared("amount", "sum", name="session"),
        Declared("amount", "count", name="faster"),
        Declared("amount", "approx_percentile", name="slow"),
        tags={
            "window.tumbling": "tumbling",
            "window.session": "session 30m",
            "change.faster": "ratio",
            "percentile.slow": "0.95",
            "team": "sales",
            "owner.mail": "nobody",
        },
    )
    assert tumbling.slide_ms == HOUR_MS
    assert (session.slide_ms, session.gap_ms) == (0, HOUR_MS // 2)
    assert faster.change is WindowChange.RATIO
    assert slow.percentile == 0.95


def test_without_a_time_window_the_whole_life_counts_up_to_the_value_or_to_the_last_slide() -> None:
    items = compiled(
        Declared("amount", "sum", None), Declared("amount", "sum", None, slide_interval=10 * MINUTE)
    )
    assert [(item.window_ms, item.slide_ms) for item in items] == [(0, 0), (0, 600_000)]
    assert aggregation_compiler.hop_ms(view(Declared("amount", "sum", None), hop=None)) == 300_000


@pytest.mark.parametrize(
    ("window_minutes", "hop_seconds"), [((60,), 300), ((7,), 60), ((60, 8), 60), ((5,), 300)]
)
def test_without_a_hop_the_longest_is_taken_that_divides_every_window(
    window_minutes: tuple[int, ...], hop_seconds: int
) -> None:
    items = [Declared("amount", "sum", minutes * MINUTE) for minutes in window_minutes]
    assert aggregation_compiler.hop_ms(view(*items, hop=None)) == hop_seconds * 1000


@pytest.mark.parametrize(
    ("item", "tags", "named"),
    [
        (Declared("amount", "mode"), {}, "function 'mode'"),
        (Declared("amount", "sum", dt.timedelta(0)), {}, "time_window"),
        (Declared("amount", "sum", -HOUR), {}, "time_window"),
        (Declared("amount", "sum", None), {"window.out": "tumbling"}, "time_window"),
        (Declared("amount", "sum", None), {"window.out": "session 30m"}, "time_window"),
        (Declared("amount", "sum", None), {"change.out": "ratio"}, "whole life"),
        (Declared("amount", "sum", None, slide_interval=7 * MINUTE), {}, "multiples"),
        (Declared("note", "last"), {"change.out": "difference"}, "column 'note' is string"),
        (Declared("paid", "first"), {"change.out": "difference"}, "column 'paid' is bool"),
        (Declared("note", "sum"), {}, "column 'note'"),
        (Declared("absent", "count"), {}, "column 'absent'"),
        (Declared("amount", "sum"), {"window.out": "daily"}, "'daily'"),
        (Declared("amount", "sum"), {"window.out": "session"}, "gap"),
        (Declared("amount", "sum"), {"window.out": "session 30"}, "gap"),
        (Declared("amount", "sum"), {"window.out": "session 1m"}, "tiling_hop_size"),
        (Declared("amount", "sum"), {"window.out": "session 2h"}, "time_window"),
        (Declared("amount", "sum", slide_interval=7 * MINUTE), {}, "multiples"),
        (Declared("amount", "sum", slide_interval=2 * HOUR), {}, "not longer"),
        (Declared("amount", "sum", 61 * MINUTE), {"window.out": "tumbling"}, "multiples"),
        (Declared("amount", "sum", slide_interval=10 * MINUTE), {"window.out": "tumbling"}, "choose one"),
        (Declared("amount", "sum"), {"change.out": "percent"}, "'percent'"),
        (Declared("amount", "sum"), {"window.out": "session 30m", "change.out": "ratio"}, "session"),
        (Declared("amount", "sum"), {"percentile.out": "0.5"}, "approx_percentile"),
        (Declared("amount", "approx_percentile"), {}, "percentile"),
        (Declared("amount", "approx_percentile"), {"percentile.out": "95"}, "'95'"),
        (Declared("amount", "approx_percentile"), {"percentile.out": "half"}, "'half'"),
        (Declared("event_time", "count_distinct"), {}, "column 'event_time'"),
        (Declared("amount", "sum"), {"window.other": "tumbling"}, "'other'"),
        (Declared("amount", "sum"), {"windows.out": "tumbling"}, "'windows'"),
        (Declared("amount", "sum", 4 * MINUTE), {}, "tiling_hop_size"),
    ],
)
def test_what_cannot_be_run_is_refused_by_view_and_field(
    item: Declared, tags: dict[str, str], named: str
) -> None:
    with pytest.raises(PlanError, match=named) as refused:
        compiled(item, tags=tags)
    assert "view 'orders'" in str(refused.value)


_FLOATS = {ValueType.DOUBLE, ValueType.FLOAT}
_WHOLE = {*_FLOATS, ValueType.INT64, ValueType.INT32}


@pytest.mark.parametrize(
    ("column", "function", "tags", "allowed"),
    [
        ("note", "count", {}, _WHOLE),
        ("note", "count_distinct", {}, _WHOLE),
        ("items", "last", {}, _WHOLE),
        ("amount", "last", {}, _FLOATS),
        ("items", "mean", {}, _FLOATS),
        ("note", "count", {"change.out": "difference"}, _WHOLE),
        ("note", "count", {"change.out": "ratio"}, _FLOATS),
        ("note", "last", {}, {ValueType.STRING}),
        ("paid", "first", {}, {ValueType.BOOL}),
        ("paid", "count", {}, _WHOLE),
    ],
)
def test_a_feature_is_of_a_type_that_all_values_fit(
    column: str, function: str, tags: dict[str, str], allowed: set[ValueType]
) -> None:
    items = compiled(Declared(column, function), tags=tags)
    for kind in ValueType:
        features = (Column("out", kind),)
        if kind in allowed:
            assert aggregation_compiler.in_order(view(), features, items, FIELDS) == features
        else:
            with pytest.raises(PlanError, match="'out' must be"):
                aggregation_compiler.in_order(view(), features, items, FIELDS)
