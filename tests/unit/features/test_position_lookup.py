"""Where a view continues: from stored progress, from now on, or in a new generation after a loss."""

import asyncio
import dataclasses
from typing import Any

from services.features.generations import NOW, Generations
from services.features.position_lookup import PositionLookup
from services.features.row_store import StateLostError, WriteConflictError
from services.features.view_partition import PartitionViews, ViewPartition
from services.features.view_progress import ViewProgress
from tests.unit.features.fakes import BY_ID, FakeRowStore, FakeSink, started_generations


def a_view() -> ViewPartition:
    return ViewPartition(FakeSink("by_id"), "source-0", 0)


async def lookup_in(store: FakeRowStore) -> tuple[PositionLookup, Generations]:
    generations = await started_generations(store, BY_ID)
    real_store: Any = store
    return PositionLookup("orders", real_store, generations), generations


def test_stored_progress_is_read_once() -> None:
    async def check() -> None:
        store = FakeRowStore()
        lookup, _ = await lookup_in(store)
        store.stored["by_id", "source-0"] = ViewProgress(5, {}, b"5")
        view = a_view()
        await lookup.locate(view, 100)
        store.stored["by_id", "source-0"] = ViewProgress(6, {}, b"6")
        await lookup.locate(view, 100)
        assert (view.known_progress.next_offset, view.generation) == (5, 1)

    asyncio.run(check())


def test_view_without_progress_begins_at_the_start_or_at_the_current_offset() -> None:
    async def check() -> None:
        store = FakeRowStore()
        lookup, generations = await lookup_in(store)
        view = a_view()
        await lookup.locate(view, 100)
        assert view.known_progress.next_offset == 0
        await generations.begin_next("by_id", store.current["by_id"], "test", start=NOW)
        await generations.check()
        await lookup.locate(view, 100)
        assert (view.known_progress.next_offset, view.generation) == (100, 2)

    asyncio.run(check())


def test_progress_that_the_store_contradicts_is_forgotten() -> None:
    async def check() -> None:
        store = FakeRowStore()
        lookup, _ = await lookup_in(store)
        same, changed, building = a_view(), a_view(), a_view()
        for view in (same, changed, building):
            view.progress = ViewProgress(5, {}, b"5")
        changed.progress = building.progress = ViewProgress(7, {}, b"7")
        building.caught_up = asyncio.Event()
        store.stored["by_id", "source-0"] = ViewProgress(5, {}, b"5")
        await lookup.forget_changed(PartitionViews(0, [same, changed, building]))
        known = [view.progress is not None for view in (same, changed, building)]
        assert known == [True, False, True], "a build reads its progress itself"

    asyncio.run(check())


def test_new_generation_begins_if_rows_are_lost_but_their_progress_is_stored() -> None:
    async def generation_after(error: Any, stored_offset: int) -> int:
        store = FakeRowStore()
        lookup, _ = await lookup_in(store)
        store.stored["by_id", "source-0"] = ViewProgress(stored_offset, {}, b"x")
        view = a_view()
        view.progress = ViewProgress(5, {}, b"5")
        view.forget()
        await lookup.recover(PartitionViews(0, [view]), error)
        return store.current["by_id"].number

    async def check() -> None:
        lost, conflict = StateLostError("by_id", "gone"), WriteConflictError("by_id", "changed")
        assert await generation_after(lost, stored_offset=5) == 2
        assert await generation_after(lost, stored_offset=4) == 1, "the progress went back with the rows"
        assert await generation_after(conflict, stored_offset=5) == 1

    asyncio.run(check())


def test_loss_is_not_repaired_twice_if_another_worker_has_begun_a_generation() -> None:
    async def check() -> None:
        store = FakeRowStore()
        lookup, _ = await lookup_in(store)
        store.current["by_id"] = dataclasses.replace(store.current["by_id"], number=9)
        view = a_view()
        await lookup.recover(PartitionViews(0, [view]), StateLostError("by_id", "gone"))
        assert store.current["by_id"].number == 9

    asyncio.run(check())
