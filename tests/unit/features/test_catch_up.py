"""Builds of lagging views: nothing is skipped or applied twice, and errors are retried."""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka.errors import OffsetOutOfRangeError

from services.features import catch_up
from services.features.catch_up import BuildProgress, CatchUp
from services.features.position_lookup import PositionLookup
from services.features.row_store import StateLostError
from services.features.view_partition import PartitionViews, ViewPartition
from services.features.view_progress import ViewProgress
from tests.unit.features.fakes import (
    BY_ID,
    BY_SHOP,
    FakeLog,
    FakeRowStore,
    FakeSink,
    order,
    started_generations,
)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "RETRY_SECONDS", 0)


@dataclasses.dataclass
class Build:
    """A partition with two views and the records that each was given."""

    store: FakeRowStore
    log: FakeLog
    partition: PartitionViews
    catch_up: CatchUp
    applied: dict[str, list[int]]
    removed: list[tuple[str, int]]
    refusals: list[Exception]
    poison: set[tuple[str, int]]
    """Views and the offsets on which they fail."""
    letters: list[tuple[str, int]]
    """Views and the offsets that they skipped."""

    async def run(self) -> None:
        for view in self.partition.views:
            if view.known_progress.next_offset < self.partition.reached:
                self.catch_up.start(self.partition, view)
        assert self.partition.build is not None
        await self.partition.build


async def a_build(log: FakeLog, by_id: int, by_shop: int, reached: int) -> Build:
    """Return a build of two views that have reached these offsets."""
    store = FakeRowStore()
    generations = await started_generations(store, BY_ID, BY_SHOP)
    views = []
    for name, offset in (("by_id", by_id), ("by_shop", by_shop)):
        progress = store.stored[name, "source-0"] = ViewProgress(offset, {}, b"0")
        views.append(ViewPartition(FakeSink(name), "source-0", 0, generation=1, progress=progress))
    applied: dict[str, list[int]] = {"by_id": [], "by_shop": []}
    removed: list[tuple[str, int]] = []
    refusals: list[Exception] = []
    poison: set[tuple[str, int]] = set()
    letters: list[tuple[str, int]] = []

    async def advance(
        partition: PartitionViews,
        records: Sequence[Any],
        next_offset: int,
        group: Sequence[ViewPartition],
        *,
        send_dead_letters: bool,
        defects: Mapping[int, str],
    ) -> None:
        assert send_dead_letters == bool(defects)
        offsets = {record.offset for record in records}
        try:
            if refusals:
                raise refusals.pop(0)
            if any((view.view, offset) in poison for view in group for offset in offsets - defects.keys()):
                raise ValueError("poison")
        except Exception:
            for view in group:
                view.forget()
            raise
        letters.extend((view.view, offset) for view in group for offset in defects)
        for view in group:
            store.stored[view.view, "source-0"] = ViewProgress(next_offset, {}, b"0")
            applied[view.view] += [record.offset for record in records]
            view.progress = ViewProgress(next_offset, {}, b"0")

    lookup = PositionLookup("orders", store, generations)  # type: ignore[arg-type]  # a fake
    work = CatchUp(
        "orders", lookup, log.opened, advance, lambda view, count: removed.append((view.view, count))
    )
    partition = PartitionViews(0, views, reached)
    return Build(store, log, partition, work, applied, removed, refusals, poison, letters)


def after(log: FakeLog, by_id: int, by_shop: int, reached: int, **changes: Any) -> Build:
    """Run a build to its end."""

    async def go() -> Build:
        build = await a_build(log, by_id, by_shop, reached)
        build.refusals += changes.get("refusals", [])
        build.poison |= changes.get("poison", set())
        await build.run()
        return build

    return asyncio.run(go())


RECORDS = [order(offset, offset) for offset in range(12)]


def test_lagging_view_is_built_up_to_the_offset_that_slices_have_reached() -> None:
    build = after(FakeLog(RECORDS), by_id=4, by_shop=10, reached=10)
    assert build.applied == {"by_id": [4, 5, 6, 7, 8, 9], "by_shop": []}
    assert [view.caught_up for view in build.partition.views] == [None, None]


def test_two_lagging_views_meet_and_go_on_together() -> None:
    build = after(FakeLog(RECORDS), by_id=0, by_shop=4, reached=10)
    assert build.applied == {"by_id": list(range(10)), "by_shop": list(range(4, 10))}
    assert build.log.ranges == [(0, 3), (3, 4), (4, 7), (7, 10)], "no offset is read twice"


def test_records_that_retention_deleted_are_reported_and_skipped() -> None:
    build = after(FakeLog(RECORDS, start=7), by_id=2, by_shop=10, reached=10)
    assert (build.removed, build.applied["by_id"]) == ([("by_id", 5)], [7, 8, 9])


def test_retention_beyond_the_slices_ends_the_build_there() -> None:
    build = after(FakeLog(RECORDS, start=11), by_id=2, by_shop=10, reached=10)
    assert (build.removed, build.applied["by_id"]) == ([("by_id", 8)], [])


@pytest.mark.parametrize("error", [OffsetOutOfRangeError({}), OSError("away"), RuntimeError("a defect")])
def test_failed_read_is_retried(error: Exception) -> None:
    build = after(FakeLog(RECORDS, errors=[error, error]), by_id=4, by_shop=10, reached=10)
    assert build.applied["by_id"] == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("step", [1, 3, 100])
def test_record_on_which_a_view_fails_is_a_letter_and_no_gap_and_the_other_view_applies_it(step: int) -> None:
    build = after(FakeLog(RECORDS, step=step), by_id=0, by_shop=0, reached=10, poison={("by_id", 7)})
    assert build.applied == {"by_id": list(range(10)), "by_shop": list(range(10))}
    assert build.letters == [("by_id", 7)]


def test_every_record_on_which_every_view_fails_is_skipped_by_each() -> None:
    poison = {(view, offset) for view in ("by_id", "by_shop") for offset in (0, 4, 5, 9)}
    build = after(FakeLog(RECORDS, step=100), by_id=0, by_shop=0, reached=10, poison=poison)
    assert build.applied == {"by_id": list(range(10)), "by_shop": list(range(10))}
    assert sorted(build.letters) == sorted(poison)


def test_lost_rows_begin_a_new_generation_and_are_built_from_the_start() -> None:
    async def go() -> Build:
        build = await a_build(FakeLog(RECORDS), by_id=4, by_shop=10, reached=10)
        build.refusals.append(StateLostError("by_id", "gone"))
        await build.run()
        return build

    build = asyncio.run(go())
    assert build.store.current["by_id"].number == 2
    assert build.applied["by_id"] == list(range(10))


def test_progress_of_a_build_is_summed_over_partitions() -> None:
    progress = BuildProgress(30, 100, 0).plus(BuildProgress(20, 100, 7))
    assert str(progress) == "50 of 200 records left (75% done); retention deleted 7 records"
    assert str(BuildProgress(0, 0, 0)) == "0 of 0 records left (100% done)"
