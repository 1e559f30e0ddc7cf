"""The features process leaves out the events of erased subjects, by the source offset of each event."""

import asyncio
from typing import Any

import pytest

from services.feature_store.erasures import digest_of
from services.features import erased_events
from services.features.erased_events import ErasedEvents
from services.features.view_state import Event, ViewLogic
from streams.records import Erasure
from tests.feature_worker import views

SALT = b"s" * 32


def erasure(shop: str, end: int) -> Erasure:
    return Erasure(
        erasure_id=shop,
        join_keys=["shop"],
        salt=SALT,
        digest=digest_of(SALT, {"shop": shop}),
        at_ms=1,
        expires_ms=None,
        offsets={"orders": [end]},
        topic_ids={"orders": "first"},
    )


def event(shop: str | None, offset: int) -> Event:
    value: Any = type("Order", (), {"id": "a", "shop": shop, "amount": 1.0})
    return Event(value, 1, 0, offset)


def test_events_of_the_subject_before_the_end_are_left_out_of_its_views_only() -> None:
    direct, moved = (ViewLogic("p", view) for view in views(""))
    erased = ErasedEvents(lambda: [erasure("mill", 2)])
    events = [event("mill", 0), event("dock", 1), event("mill", 2), event(None, 0)]
    assert erased.kept(moved, events) == events
    asyncio.run(erased.refresh())
    assert erased.kept(moved, events) == events[1:]
    assert erased.kept(direct, events) == events, "its rows are of orders, not of shops"
    assert erased.has(moved, ("mill",))
    assert not erased.has(moved, ("dock",))


def test_a_recreated_topic_has_none_of_these_events() -> None:
    _, moved = (ViewLogic("p", view) for view in views(""))
    erased = ErasedEvents(lambda: [erasure("mill", 2)])
    asyncio.run(erased.refresh())
    erased.note_topics({"orders": "second"})
    assert erased.kept(moved, [of_mill := event("mill", 0)]) == [of_mill]


def test_more_entities_than_are_remembered_are_all_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erased_events, "REMEMBERED_MAX", 3)
    _, moved = (ViewLogic("p", view) for view in views(""))
    erased = ErasedEvents(lambda: [erasure("mill", 5)])
    asyncio.run(erased.refresh())
    events = [event(shop, 0) for shop in ("a", "b", "mill", "c", "d", "mill", "mill")]
    assert [each.value.shop for each in erased.kept(moved, events)] == ["a", "b", "c", "d"]
