"""The stored newest event of each entity, for views without a time to live."""

import dataclasses
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.feature_store.plan import Column, ValueType, View, ViewKind
from services.features.offline.newest_events import NewestEvent, NewestEvents, newest_by_key
from services.features.view_state import Event, ViewLogic
from services.runtime.watermarks import NEVER

TOPIC = "orders"
LOGIC = ViewLogic(
    "p",
    View(
        name="last_of_shop",
        kind=ViewKind.LATEST,
        join_keys=(Column("shop", ValueType.STRING),),
        features=(Column("amount", ValueType.DOUBLE),),
        ttl_ms=0,
    ),
)


@dataclasses.dataclass
class Order:
    """The attributes of an order that the view reads."""

    shop: str | None
    value: bytes = b""


orders = st.tuples(
    st.sampled_from(["mill", "dock", None]), st.integers(0, 9), st.integers(0, 1), st.integers(0, 99)
)


@given(
    st.lists(st.lists(orders, max_size=6), max_size=5, unique_by=str),
    st.lists(st.integers(0, 10), max_size=5),
)
def test_newest_event_before_the_time_is_stored_in_any_order_of_arrival(
    batches: list[list[tuple[str | None, int, int, int]]], untils: list[int]
) -> None:
    """At equal times the higher partition, then the higher offset wins, as in the online store."""
    expected: dict[str, NewestEvent] = {}
    with NewestEvents(Path(":memory:")) as newest:
        for batch, until_ms in zip(batches, sorted(untils), strict=False):
            events: list[tuple[Any, Event]] = [
                (Order(shop), Event(Order(shop), at_ms, partition, offset))
                for shop, at_ms, partition, offset in batch
            ]
            newest.put("by_shop", newest_by_key(LOGIC, events, until_ms))
            newest.commit(TOPIC, until_ms)
            for shop, at_ms, partition, offset in batch:
                event = NewestEvent(at_ms, partition, offset, b"")
                if shop is not None and event.time_ms < until_ms:
                    expected[shop] = max(expected.get(shop, event), event)
            keys = [LOGIC.key_of((shop,)) for shop in ("mill", "dock", "hill")]
            assert sorted(newest.find("by_shop", keys)) == sorted(expected.values())
            assert newest.until_ms(TOPIC) == until_ms


def test_uncommitted_events_of_a_killed_pass_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "newest.sqlite"
    with NewestEvents(path) as newest:
        assert newest.until_ms(TOPIC) == NEVER
        newest.put("v", {b"a": NewestEvent(1, 0, 1, b"old")})
        newest.commit(TOPIC, 5)
        newest.put("v", {b"a": NewestEvent(7, 0, 2, b"new")})
    with NewestEvents(path) as newest:
        stored = [*newest.find("v", [b"a", b"b"])]
        assert (newest.until_ms(TOPIC), stored) == (5, [NewestEvent(1, 0, 1, b"old")])
        newest.clear()
        assert (newest.until_ms(TOPIC), [*newest.find("v", [b"a"])]) == (NEVER, [])


def test_more_keys_than_one_query_takes_are_found(tmp_path: Path) -> None:
    events = {b"%d" % n: NewestEvent(n, 0, n, b"") for n in range(1200)}
    with NewestEvents(tmp_path / "newest.sqlite") as newest:
        newest.put("v", events)
        assert sorted(newest.find("v", list(events))) == sorted(events.values())
