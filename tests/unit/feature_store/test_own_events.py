"""Whether a request is in its own features is declared: the values are the same at any speed of arrival."""

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.feature_store import own_events
from services.feature_store.plan import (
    Column,
    FeatureAggregation,
    OwnEvent,
    ServicePlan,
    StreamSource,
    ValueType,
    View,
    ViewKind,
)
from services.features.view_state import Event, ViewLogic
from services.runtime import watermarks
from streams import codec
from tests.unit.feature_store.online_store import reader_of
from tests.unit.feature_store.test_online_reader import HOUR_MS, NOON_MS, SHOP, hashes_of, service_of

SOURCE = StreamSource(
    "payments", "at", (codec.Field("shop", codec.FieldType.STRING, nullable=False),), ("shop",), 0
)
FUNCTIONS = ("count", "sum", "mean", "min", "max", "last")
FEATURES = tuple(Column(each, ValueType.DOUBLE) for each in FUNCTIONS)
WINDOWS = tuple(FeatureAggregation(each, "amount", each, HOUR_MS) for each in FUNCTIONS)
LIFE = (FeatureAggregation("count", "amount", "count", 0),)


def windowed(ttl_ms: int = 0) -> View:
    return View("paid", ViewKind.WINDOWED, SHOP, FEATURES, ttl_ms, SOURCE, WINDOWS, 60_000)


def latest() -> View:
    features = (Column("amount", ValueType.DOUBLE), Column("device", ValueType.STRING))
    return View("last", ViewKind.LATEST, SHOP, features, 0, SOURCE)


def payment(amount: float | None, device: str = "d") -> dict[str, Any]:
    return {"amount": amount, "device": device}


def at(minutes: float) -> int:
    return NOON_MS + round(minutes * 60_000)


PAID = [(at(-90), payment(64.0)), (at(-20), payment(1.0)), (at(-10), payment(2.0, "e"))]
OWN = (NOON_MS, payment(4.0, "f"))
LATER = [(at(0.001), payment(8.0)), (at(5), payment(16.0))]


def serve(
    view: View, events: list[tuple[int, Any]], own: str, rows: int = 1, shop: str = "mill"
) -> list[Any]:
    """Return the values of the payment at noon, of a store that has read these events."""
    service: ServicePlan = service_of(view).for_requests("payments", own)
    mark = {watermarks.order_key(watermarks.of_view("p", view.name)).encode(): {b"0": b"%d" % NOON_MS}}
    hashes = hashes_of(view, {"mill": events}) if events else {}
    reader = reader_of(service, {**hashes, **mark})
    asked = [SimpleNamespace(shop=shop, **OWN[1])] * rows
    times_ms = np.full(rows, NOON_MS)
    served = asyncio.run(reader.read({"shop": [shop] * rows}, times_ms, asked))
    values = [column.tolist() for column in served.columns.values()]
    assert all(each == each[:1] * rows or each[0] != each[0] for each in values)
    return [each[0] for each in values]


@pytest.mark.parametrize("rows", [1, 50])
@pytest.mark.parametrize("read", [PAID, [*PAID, OWN], [*PAID, OWN, *LATER], [*PAID, *LATER]])
def test_windows_are_the_same_however_far_the_features_are(read: list[Any], rows: int) -> None:
    """Features may have read all events before the payment, itself, and later ones."""
    assert serve(windowed(), read, "included", rows) == [3, 7, pytest.approx(7 / 3), 1, 4, 4]
    assert serve(windowed(), read, "excluded", rows) == [2, 3, 1.5, 1, 2, 2]


@pytest.mark.parametrize("read", [PAID, [*PAID, OWN], [*PAID, OWN, *LATER]])
def test_newest_event_is_the_request_itself_or_the_one_before(read: list[Any]) -> None:
    assert serve(latest(), read, "included") == [4.0, "f"]
    assert serve(latest(), read, "excluded") == [2.0, "e"]


def test_first_event_of_an_entity_counts_itself_or_has_no_features() -> None:
    assert serve(windowed(), [], "included") == [1, 4, 4, 4, 4, 4]
    assert np.isnan(serve(windowed(), [], "excluded")).all()
    assert serve(windowed(), [OWN], "included") == [1, 4, 4, 4, 4, 4]
    assert np.isnan(serve(windowed(), [OWN], "excluded")).all()


def test_an_expired_entity_is_fresh_again_with_its_own_event() -> None:
    view = windowed(ttl_ms=60_000)
    assert serve(view, PAID, "included")[0] == 3
    assert np.isnan(serve(view, PAID, "excluded")).all()


def test_aggregate_of_a_whole_life_has_the_own_event_once() -> None:
    view = View("paid", ViewKind.WINDOWED, SHOP, FEATURES[:1], 0, SOURCE, LIFE, 60_000)
    days = [(at(-60 * 24 * day), payment(1.0)) for day in range(40, 0, -1)]
    assert [serve(view, [*days, *more], "included") for more in ([], [OWN])] == [[41], [41]]
    assert [serve(view, [*days, *more], "excluded") for more in ([], [OWN])] == [[40], [40]]


def test_other_views_are_read_as_of_the_request() -> None:
    service = service_of(windowed()).for_requests("orders", "excluded")
    assert (service.own_event, service.own_views) == (OwnEvent("orders", is_included=False), ())


def test_values_with_the_own_event_are_those_of_a_state_that_ends_with_it() -> None:
    """With more events than are kept apart, at any place among them."""
    view, stored = windowed(), None
    logic, own = ViewLogic("p", view), own_events.of_view(view)
    times_ms = [NOON_MS + 700 * number for number in range(3000)]
    events = [
        Event(SimpleNamespace(shop="mill", amount=1.0 + n % 7), at, 0, n) for n, at in enumerate(times_ms)
    ]
    state = logic.load(None)
    logic.apply(state, *events)
    stored = logic.stored(state.history.to_bytes())
    for number in itertools.chain(range(2990, 3000), (2500, 2200)):
        before = logic.load(None)
        logic.apply(before, *events[: number + 1])
        found = own.values(stored, times_ms[number], events[number].value)
        assert found is not None
        assert list(found) == list(logic.row(before).values), number
