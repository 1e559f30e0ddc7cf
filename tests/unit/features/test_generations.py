"""Generations of views: when a new one begins, and what is swept."""

import asyncio
import dataclasses
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.feature_store import view_definition
from services.feature_store.plan import View
from services.features.generations import Generations, SupersededError
from tests.unit.features.fakes import BY_ID, BY_SHOP, FakeRowStore, generation, started_generations

CHANGED = dataclasses.replace(BY_ID, hop_ms=20_000)


def started(store: Any, *views: View) -> Generations:
    return asyncio.run(started_generations(store, *views))


def test_new_view_begins_a_generation_and_a_known_one_does_not() -> None:
    store = FakeRowStore()
    started(store, BY_ID)
    started(store, BY_ID, BY_SHOP)
    assert {name: stored.number for name, stored in store.current.items()} == {"by_id": 1, "by_shop": 1}


def test_changed_definition_begins_a_generation_whose_old_rows_are_swept() -> None:
    store = FakeRowStore()
    started(store, BY_ID)
    generations = started(store, CHANGED)
    assert generations.current("by_id").number == 2
    assert generations.unswept().keys() == {"by_id"}
    asyncio.run(generations.sweep())
    assert store.swept == [("by_id", 2)]
    asyncio.run(generations.check())
    assert not generations.unswept()


@pytest.mark.parametrize(
    ("before", "now", "number", "kept"),
    [("a", "a", 1, "a"), ("a", "b", 2, "b"), ("", "b", 1, "b"), ("a", "", 1, "a")],
)
def test_another_topic_begins_a_generation_and_an_unknown_one_does_not(
    before: str, now: str, number: int, kept: str
) -> None:
    store = FakeRowStore()
    asyncio.run(started_generations(store, BY_ID, topics=before))
    generations = asyncio.run(started_generations(store, BY_ID, topics=now))
    current = generations.current("by_id")
    assert (current.number, current.topics, current.start) == (number, kept, "earliest")
    assert not current.unswept or number == 1, "rows of the same definition stay until they are overwritten"


def test_view_that_the_store_has_lost_begins_a_generation() -> None:
    store = FakeRowStore()
    generations = started(store, BY_ID, BY_SHOP)
    del store.current["by_id"]
    asyncio.run(generations.check())
    assert store.current["by_id"].start == "earliest"
    assert generations.views == ("by_id", "by_shop")


def test_definition_of_another_process_is_followed_by_an_error_not_overwritten() -> None:
    store = FakeRowStore()
    generations = started(store, BY_ID, BY_SHOP)
    newer = started(store, CHANGED)
    asyncio.run(generations.check())
    assert generations.superseded() == ["by_id"]
    with pytest.raises(SupersededError, match="another process builds view by_id"):
        generations.current("by_id")
    assert not generations.unswept().keys() & {"by_id"}, "the other process sweeps it"
    assert newer.current("by_id").number == 2


def test_nothing_is_read_before_the_start() -> None:
    store: Any = FakeRowStore()
    asyncio.run(Generations(store, "p", [BY_ID]).check())
    assert store.current == {}


def test_sweep_is_given_up_while_redis_is_unreachable() -> None:
    class Unreachable(FakeRowStore):
        async def sweep(self, view: str, generation: int, fields: Any) -> int:
            raise RedisConnectionError

    store = Unreachable()
    generations = started(store, BY_ID)
    asyncio.run(generations.sweep())
    assert generations.unswept().keys() == {"by_id"}


def test_generation_of_another_worker_is_kept() -> None:
    store = FakeRowStore()
    generations = started(store, BY_ID)
    store.current["by_id"] = generation(9, view_definition.digest("p", BY_ID))
    asyncio.run(generations.begin_next("by_id", generation(1), "test"))
    assert store.current["by_id"].number == 9
