"""The logic of a view: repeats, entities, and states that survive encoding."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.feature_store import feast_layout
from services.feature_store.plan import Column, ValueType, View, ViewKind
from services.features.view_state import Event, ViewLogic
from tests.unit.features.fakes import BY_ID

LATEST = View(
    "latest", ViewKind.LATEST, (Column("id", ValueType.STRING),), (Column("amount", ValueType.DOUBLE),), 0
)
TWO_KEYS = View(
    "two",
    ViewKind.LATEST,
    (Column("id", ValueType.STRING), Column("shop", ValueType.STRING)),
    (Column("amount", ValueType.DOUBLE),),
    0,
)


def event(offset: int, time_ms: int = 0, amount: float = 1.0, partition: int = 0, **keys: Any) -> Event:
    value = SimpleNamespace(**{"id": "a", "shop": "mill", **keys}, amount=amount)
    return Event(value, time_ms, partition, offset)


@pytest.mark.parametrize("view", [BY_ID, LATEST])
def test_repeated_offsets_are_applied_once(view: View) -> None:
    logic = ViewLogic("p", view)
    state = logic.load(None)
    assert logic.apply(state, event(0), event(1)) == 2
    assert logic.apply(state, event(0), event(1), event(2)) == 1
    assert logic.apply(state, event(0, partition=1)) == 1
    assert state.offsets == {0: 2, 1: 0}


@pytest.mark.parametrize("view", [BY_ID, LATEST])
def test_state_continues_after_encoding(view: View) -> None:
    logic = ViewLogic("p", view)
    once, in_steps = logic.load(None), logic.load(None)
    events = [event(n, time_ms=n * 1000, amount=float(n)) for n in range(5)]
    logic.apply(once, *events)
    for one in events:
        logic.apply(in_steps, one)
        fields = logic.fields(in_steps, logic.row(in_steps), generation=3)
        in_steps = logic.load(fields[feast_layout.sidecar_field(view.name)])
    assert logic.fields(in_steps, logic.row(in_steps)) == logic.fields(once, logic.row(once))


def test_windowed_row_holds_the_aggregate_and_the_newest_time() -> None:
    logic = ViewLogic("p", BY_ID)
    state = logic.load(None)
    logic.apply(state, event(0, 1000, 2.0), event(1, 71_500, 3.0))
    row = logic.row(state)
    assert (row.event_time_ms, list(row.values)) == (71_500, [3.0]), "the first event left the window"


def test_latest_row_is_the_newest_event_not_the_last_arrived() -> None:
    logic = ViewLogic("p", LATEST)
    state = logic.load(None)
    logic.apply(state, event(0, 2000, 2.0), event(1, 1000, 1.0))
    row = logic.row(state)
    assert (row.event_time_ms, list(row.values)) == (2000, [2.0])


def test_events_are_grouped_by_entity_and_those_without_one_are_dropped() -> None:
    logic = ViewLogic("p", TWO_KEYS)
    events = [event(0), event(1, shop="dock"), event(2, shop=None), event(3, id=None), event(4)]
    grouped = logic.by_entity(events)
    assert {entity: [e.source_offset for e in found] for entity, found in grouped.items()} == {
        ("a", "mill"): [0, 4],
        ("a", "dock"): [1],
    }
    assert [logic.entity(one.value) for one in events[2:4]] == [None, None]


def test_fields_are_always_in_the_same_order_with_the_generation_in_the_sidecar() -> None:
    logic = ViewLogic("p", BY_ID)
    state = logic.load(None)
    logic.apply(state, event(0))
    fields = logic.fields(state, logic.row(state), generation=9)
    names = [feast_layout.feature_field("by_id", "total"), feast_layout.timestamp_field("by_id")]
    sidecar = feast_layout.sidecar_field("by_id")
    assert list(fields) == [*names, sidecar]
    assert feast_layout.sidecar_generation(fields[sidecar]) == 9
