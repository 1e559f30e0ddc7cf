"""What a reader serves: values, statuses and ages, from a store in memory."""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature_store import feast_layout
from services.feature_store.online_reader import OnlineReader
from services.feature_store.plan import (
    Column,
    FeatureAggregation,
    ServiceFeature,
    ServicePlan,
    ValueType,
    View,
    ViewKind,
)
from services.feature_store.served_features import ServedFeatures, Status
from services.features.view_state import Event, ViewLogic
from services.runtime import watermarks
from services.runtime.redis_commands import decode
from tests.unit.feature_store.online_store import MemoryPipeline, reader_of

HOUR_MS = 3_600_000
NOON_MS = 1_372_680_000_000
SHOP = (Column("shop", ValueType.STRING),)
AMOUNTS = (Column("count_2h", ValueType.INT64), Column("sum_2h", ValueType.DOUBLE))
WINDOWS = tuple(
    FeatureAggregation(column.name, "amount", column.name.partition("_")[0], 2 * HOUR_MS)
    for column in AMOUNTS
)


def windowed(ttl_ms: int) -> View:
    return View("orders", ViewKind.WINDOWED, SHOP, AMOUNTS, ttl_ms, None, WINDOWS, 60_000)


def latest(ttl_ms: int) -> View:
    features = (Column("heat", ValueType.DOUBLE), Column("state", ValueType.STRING))
    return View("readings", ViewKind.LATEST, SHOP, features, ttl_ms)


def batch(ttl_ms: int) -> View:
    return View("facts", ViewKind.BATCH, SHOP, (Column("rooms", ValueType.INT64),), ttl_ms)


def service_of(*views: View) -> ServicePlan:
    references = tuple(ServiceFeature(view.name, name) for view in views for name in view.feature_names)
    return ServicePlan("s", "p", references, views)


def hashes_of(view: View, events: Mapping[str, Sequence[tuple[int, Any]]]) -> dict[bytes, dict[bytes, bytes]]:
    """Write the hash of each shop after its events."""
    logic = ViewLogic("p", view)
    hashes = {}
    for shop, entries in events.items():
        state = logic.load(None)
        for offset, (time_ms, value) in enumerate(entries):
            logic.apply(state, Event(SimpleNamespace(shop=shop, **value), time_ms, 0, offset))
        hashes[logic.key_of((shop,))] = logic.fields(state, logic.row(state))
    return hashes


def serve(
    service: ServicePlan,
    hashes: Mapping[bytes, Mapping[bytes, bytes]],
    shops: Sequence[str | None],
    times_ms: Sequence[int],
    *,
    detailed: bool = False,
) -> ServedFeatures:
    """Read from a store of these hashes, in which every stream view is complete up to noon."""
    marks = {
        watermarks.order_key(watermarks.of_view(service.project, view)).encode(): {b"0": b"%d" % NOON_MS}
        for view in service.stream_views
    }
    reader = reader_of(service, {**hashes, **marks}, detailed=detailed)
    return asyncio.run(reader.read({"shop": shops}, np.array(times_ms, dtype=np.int64)))


def order(amount: float | None) -> dict[str, Any]:
    return {"amount": amount}


def test_a_count_falls_to_zero_after_its_window_and_is_missing_after_the_ttl() -> None:
    view = windowed(ttl_ms=3 * HOUR_MS)
    hashes = hashes_of(view, {"mill": [(NOON_MS, order(4.5))]})
    hours = [-1, 0, 1, 2.5, 3, 3.5]
    times_ms = [NOON_MS + int(hour * HOUR_MS) for hour in hours]
    served = serve(service_of(view), hashes, ["mill"] * 6, times_ms)
    np.testing.assert_array_equal(served.columns["count_2h"], [np.nan, 1, 1, 0, 0, np.nan])
    np.testing.assert_array_equal(served.columns["sum_2h"], [np.nan, 4.5, 4.5, np.nan, np.nan, np.nan])
    assert [Status(status).name for status in served.statuses("sum_2h", "orders")] == [
        "NOT_FOUND", "PRESENT", "PRESENT", "NULL_VALUE", "NULL_VALUE", "OUTSIDE_MAX_AGE",
    ]  # fmt: skip
    assert served.views["orders"].ages_ms.tolist() == [-1, *(int(hour * HOUR_MS) for hour in hours[1:])]


@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize(
    ("view", "value"), [(windowed(0), order(1.0)), (latest(0), {"heat": 1.0, "state": "on"})]
)
def test_rows_before_what_a_view_still_holds_are_missing_and_told(
    view: View, value: dict[str, Any], rows: int
) -> None:
    """As for requests that are weeks older than what ``features`` has reached."""
    times_ms = [NOON_MS + day * 24 * HOUR_MS for day in range(30)]
    hashes = hashes_of(view, {"mill": [(time_ms, value) for time_ms in times_ms]})
    asked_ms = [times_ms[2]] * rows + [times_ms[-1]]
    served = serve(service_of(view), hashes, ["mill"] * (rows + 1), asked_ms)
    first = next(iter(served.columns.values()))
    assert served.beyond_retention == rows
    assert np.isnan(first[:rows]).all()
    assert first[-1] == 1


def test_without_a_ttl_a_count_stays_zero_but_only_for_an_entity_with_events() -> None:
    view = windowed(ttl_ms=0)
    hashes = hashes_of(view, {"mill": [(NOON_MS, order(None))]})
    later_ms = NOON_MS + 10_000 * HOUR_MS
    served = serve(service_of(view), hashes, ["mill", "dock", None], [later_ms] * 3)
    np.testing.assert_array_equal(served.columns["count_2h"], [0, np.nan, np.nan])
    assert served.statuses("count_2h", "orders").tolist() == [1, 3, 3]
    assert served.views["orders"].ages_ms.tolist() == [10_000 * HOUR_MS, -1, -1]


@pytest.mark.parametrize(
    "other",
    [
        feast_layout.encode_sidecar({0: 1}, b"tiles of another layout"),
        b"\x01\x00\x00 a sidecar of an earlier format",
        b"",
    ],
)
@pytest.mark.parametrize("view", [windowed(ttl_ms=0), latest(ttl_ms=0)], ids=lambda view: view.name)
def test_a_state_of_another_definition_is_not_found(view: View, other: bytes) -> None:
    key = feast_layout.entity_key_encoder("p", SHOP)(("mill",))
    hashes = {key: {feast_layout.sidecar_field(view.name): other}}
    served = serve(service_of(view), hashes, ["mill"], [NOON_MS])
    assert served.statuses(view.feature_names[0], view.name).tolist() == [Status.NOT_FOUND]


def test_a_latest_value_is_present_null_too_old_or_not_found() -> None:
    view = latest(ttl_ms=HOUR_MS)
    readings = [(NOON_MS, {"heat": 3.0, "state": "ok"}), (NOON_MS + 1, {"heat": None, "state": "ok"})]
    served = serve(
        service_of(view),
        hashes_of(view, {"mill": readings}),
        ["mill"] * 5,
        [NOON_MS - 1, NOON_MS, NOON_MS + 1, NOON_MS + 1 + HOUR_MS, NOON_MS + 2 + HOUR_MS],
    )
    assert served.columns["state"].tolist() == [None, "ok", "ok", "ok", None]
    assert served.statuses("state", "readings").tolist() == [3, 1, 1, 1, 4]
    assert served.statuses("heat", "readings").tolist() == [3, 1, 2, 2, 4]
    assert served.views["readings"].ages_ms.tolist() == [-1, 0, 0, HOUR_MS, HOUR_MS + 1]


@pytest.mark.parametrize("detailed", [False, True])
def test_a_batch_row_is_served_until_its_ttl_has_passed(*, detailed: bool) -> None:
    view = batch(ttl_ms=HOUR_MS)
    key = feast_layout.entity_key_encoder("p", SHOP)(("mill",))
    field = feast_layout.feature_field("facts", "rooms")
    row = {
        field: feast_layout.encode_value(ValueType.INT64, 2**53 + 1),
        feast_layout.timestamp_field("facts"): feast_layout.encode_timestamp(NOON_MS),
    }
    times_ms = [NOON_MS - 1, NOON_MS + HOUR_MS, NOON_MS + HOUR_MS + 1, NOON_MS]
    shops = ["mill", "mill", "mill", "dock"]
    served = serve(service_of(view), {key: row}, shops, times_ms, detailed=detailed)
    column = "facts__rooms" if detailed else "rooms"
    assert served.statuses(column, "facts").tolist() == [1, 1, 4, 3]
    assert served.views["facts"].ages_ms.tolist() == [0, HOUR_MS, HOUR_MS + 1, -1]
    if detailed:
        assert served.columns[column].tolist() == [2**53 + 1, 2**53 + 1, None, None]
    else:
        np.testing.assert_array_equal(served.columns[column], [2.0**53, 2.0**53, np.nan, np.nan])


def test_ages_of_batch_views_without_a_ttl_are_only_read_if_detailed() -> None:
    view = batch(ttl_ms=0)
    assert serve(service_of(view), {}, ["mill"], [NOON_MS]).views == {}
    assert set(serve(service_of(view), {}, ["mill"], [NOON_MS], detailed=True).views) == {"facts"}


def test_a_single_double_of_a_single_entity_expires_too() -> None:
    view = View("facts", ViewKind.BATCH, SHOP, (Column("width", ValueType.DOUBLE),), HOUR_MS)
    row = {
        feast_layout.feature_field("facts", "width"): feast_layout.encode_value(ValueType.DOUBLE, 1.5),
        feast_layout.timestamp_field("facts"): feast_layout.encode_timestamp(NOON_MS),
    }
    hashes = {feast_layout.entity_key_encoder("p", SHOP)(("mill",)): row}
    for hours, expected in ((1, 1.5), (2, np.nan)):
        served = serve(service_of(view), hashes, ["mill"], [NOON_MS + hours * HOUR_MS])
        np.testing.assert_array_equal(served.columns["width"], [expected])


@pytest.mark.parametrize("shops", [[], [None], ["mill"], ["dock", None, "mill", "dock", "hill"]])
def test_each_row_gets_its_own_entity_however_often_it_comes(shops: list[str | None]) -> None:
    view = View(
        "facts", ViewKind.BATCH, SHOP, (Column("x", ValueType.DOUBLE), Column("y", ValueType.DOUBLE)), 0
    )
    key_of = feast_layout.entity_key_encoder("p", SHOP)
    known: dict[str | None, tuple[float | None, float]] = {"mill": (1.5, -2.0), "dock": (None, 3.0)}
    hashes = {
        key_of((shop,)): {
            feast_layout.feature_field("facts", name): feast_layout.encode_value(ValueType.DOUBLE, value)
            for name, value in zip(("x", "y"), values, strict=True)
        }
        for shop, values in known.items()
    }
    served = serve(service_of(view), hashes, shops, [NOON_MS] * len(shops))
    for key, name in enumerate(("x", "y")):
        expected = [known.get(shop, (None, None))[key] for shop in shops]
        np.testing.assert_array_equal(served.columns[name], np.array(expected, dtype=np.float64))


times = st.integers(0, 5 * HOUR_MS)


@given(
    st.dictionaries(st.sampled_from(["mill", "dock"]), st.lists(times, min_size=1, max_size=8)),
    st.lists(st.tuples(st.sampled_from(["mill", "dock", "hill"]), times), min_size=1, max_size=8),
    st.sampled_from([0, 1, HOUR_MS, 2 * HOUR_MS]),
)
def test_rows_are_those_of_a_point_in_time_join_with_the_same_ttl(
    events: dict[str, list[int]], queries: list[tuple[str, int]], ttl_ms: int
) -> None:
    view = windowed(ttl_ms)
    hashes = hashes_of(
        view, {shop: [(time, order(1.0)) for time in entries] for shop, entries in events.items()}
    )
    shops, times_ms = zip(*queries, strict=True)
    served = serve(service_of(view), hashes, shops, times_ms)
    for row, (shop, time_ms) in enumerate(queries):
        newest = max((time for time in events.get(shop, []) if time <= time_ms), default=None)
        joined = newest is not None and (not ttl_ms or time_ms - newest <= ttl_ms)
        assert (served.statuses("count_2h", "orders")[row] == Status.PRESENT) == joined
        assert np.isnan(served.columns["count_2h"][row]) != joined
        assert served.views["orders"].ages_ms[row] == (-1 if newest is None else time_ms - newest)


def test_watermarks_are_read_before_the_rows_and_each_entity_once() -> None:
    """An event that a watermark promises must be in the rows, and a repeated entity costs one command."""
    service = service_of(windowed(ttl_ms=0), latest(ttl_ms=0))
    pipeline = MemoryPipeline({})
    columns = {"shop": ["mill", None, "dock", "mill"]}
    asyncio.run(OnlineReader(service, pipeline).read(columns, np.full(4, NOON_MS)))
    key_of = feast_layout.entity_key_encoder("p", SHOP)
    fields = [feast_layout.sidecar_field(view) for view in service.stream_views]
    assert pipeline.batches == (
        [
            next(iter(decode([watermarks.first_command(watermarks.of_view(service.project, view))])))
            for view in service.stream_views
        ],
        [("HMGET", key_of((shop,)), *fields) for shop in ("mill", "dock")],
    )


def test_a_view_that_has_never_reported_makes_the_lag_unknown() -> None:
    reader = reader_of(service_of(latest(ttl_ms=0)), {})
    served = asyncio.run(reader.read({"shop": ["mill"]}, np.array([NOON_MS])))
    assert served.watermarks_ms == {"readings": None}
    assert served.lag_ms.tolist() == [-1]


def test_without_times_rows_are_read_as_of_now() -> None:
    """The newest event is found, but today it is too old."""
    view = windowed(ttl_ms=3 * HOUR_MS)
    reader = reader_of(service_of(view), hashes_of(view, {"mill": [(NOON_MS, order(4.5))]}))
    served = asyncio.run(reader.read({"shop": ["mill", "dock"]}))
    assert served.statuses("count_2h", "orders").tolist() == [Status.OUTSIDE_MAX_AGE, Status.NOT_FOUND]


def test_waiting_costs_nothing_for_a_time_that_the_watermarks_of_a_read_have_passed() -> None:
    """The pipeline of the test has no client to ask for watermarks."""
    service = service_of(latest(ttl_ms=0))
    marks = {watermarks.order_key("p.readings").encode(): {b"0": b"%d" % NOON_MS}}
    reader = reader_of(service, marks)

    async def wait() -> bool:
        await reader.read({"shop": ["mill"]}, np.array([NOON_MS]))
        return await reader.wait_for(NOON_MS, timeout_seconds=0)

    assert asyncio.run(wait())


def test_a_view_that_is_built_again_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    key = watermarks.order_key("p.readings").encode()
    marks = {key: {b"0": b"%d" % NOON_MS}}
    reader = reader_of(service_of(latest(ttl_ms=0)), marks)
    asked: list[list[str]] = []

    async def still_behind(_client: Any, names: list[str], *_: Any) -> bool:
        asked.append(names)
        return False

    monkeypatch.setattr(watermarks, "wait_for", still_behind)

    async def wait() -> bool:
        await reader.read({"shop": ["mill"]}, np.array([NOON_MS]))
        marks[key][b"0"] = b"%d" % watermarks.NEVER
        served = await reader.read({"shop": ["mill"]}, np.array([NOON_MS]))
        assert served.lag_ms.tolist() == [-1]
        return await reader.wait_for(NOON_MS, timeout_seconds=0)

    assert not asyncio.run(wait())
    assert asked == [["p.readings"]]


@pytest.mark.parametrize("exchanged", [{"function": "max"}, {"window_ms": 3 * HOUR_MS}, {"column": "tip"}])
def test_a_row_of_an_exchanged_aggregation_is_missing(exchanged: dict[str, Any]) -> None:
    """Its bytes could be decoded, but they mean something else."""
    view = windowed(ttl_ms=0)
    hashes = hashes_of(view, {"mill": [(NOON_MS, order(4.5))]})
    first, *others = view.aggregations
    changed = dataclasses.replace(view, aggregations=(dataclasses.replace(first, **exchanged), *others))
    served = serve(service_of(changed), hashes, ["mill"], [NOON_MS])
    assert {served.statuses(name, "orders")[0] for name in changed.feature_names} == {Status.NOT_FOUND}


def test_watermarks_of_each_view_are_returned_with_the_lag_of_the_slowest() -> None:
    view = latest(ttl_ms=0)
    served = serve(service_of(view), {}, ["mill", "mill"], [NOON_MS, NOON_MS + 5])
    assert served.watermarks_ms == {"readings": NOON_MS}
    assert served.lag_ms.tolist() == [0, 5]
    assert watermarks.NEVER not in served.lag_ms


def test_batch_views_of_one_entity_keep_their_own_types_nulls_and_missing_rows() -> None:
    """Doubles are decoded in one go; that must not change strings, nulls and entities without a row."""
    heat = View(
        "heat", ViewKind.BATCH, SHOP, (Column("mean", ValueType.DOUBLE), Column("max", ValueType.DOUBLE)), 0
    )
    owner = View(
        "owner",
        ViewKind.BATCH,
        SHOP,
        (Column("name", ValueType.STRING), Column("share", ValueType.DOUBLE)),
        0,
    )
    stored: dict[str, dict[tuple[str, str], Any]] = {
        "mill": {
            ("heat", "mean"): 1.5,
            ("heat", "max"): 2.5,
            ("owner", "name"): "Ann",
            ("owner", "share"): 0.5,
        },
        "dock": {
            ("heat", "mean"): 3.0,
            ("heat", "max"): None,
            ("owner", "name"): None,
            ("owner", "share"): 1.0,
        },
    }
    types = {(view.name, column.name): column.type for view in (heat, owner) for column in view.features}
    key_of = feast_layout.entity_key_encoder("p", SHOP)
    hashes = {
        key_of((shop,)): {
            feast_layout.feature_field(*key): feast_layout.encode_value(types[key], value)
            for key, value in row.items()
        }
        for shop, row in stored.items()
    }
    service = service_of(heat, owner)
    for shops in (["mill"], ["mill", "dock"], ["mill", "dock", "none"], ["dock", None, "mill", "dock"]):
        served = serve(service, hashes, shops, [NOON_MS] * len(shops))
        for key, kind in types.items():
            expected = [stored.get(shop or "", {}).get(key) for shop in shops]
            if kind is ValueType.DOUBLE:
                numbers = [np.nan if value is None else value for value in expected]
                np.testing.assert_array_equal(served.columns[key[1]], numbers)
            else:
                assert served.columns[key[1]].tolist() == expected
