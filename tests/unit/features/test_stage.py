"""A stage: which views get a slice, what is acknowledged, and how refused writes are retried."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from faust.types import TP
from prometheus_client import REGISTRY

from services.features import stage
from services.features.row_store import StateLostError, WriteConflictError
from services.features.stage import FeatureStage, public_watermark
from services.features.view_partition import ViewPartition
from services.features.view_progress import ProgressUpdate, ViewProgress
from services.runtime.watermarks import NEVER
from streams.batches import Lanes
from streams.slices import Slice, SliceObserver
from tests.unit.features.fakes import (
    BY_ID,
    BY_SHOP,
    FakeLog,
    FakeRowStore,
    FakeSink,
    order,
    started_generations,
)


class RecordingStage(FeatureStage):
    """Records what it is given, and refuses on demand."""

    prefix = "source"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calls: list[tuple[list[str], list[int], bool]] = []
        self.refusals: list[Exception] = []
        self.poison: tuple[str, int] | None = None
        """View and offset on which every attempt fails, unless the record is a defect."""

    async def process(
        self,
        partition: int,
        records: Sequence[Any],
        next_offset: int,
        views: Sequence[ViewPartition],
        *,
        send_dead_letters: bool,
        defects: Mapping[int, str],
    ) -> list[ProgressUpdate]:
        names, offsets = [view.view for view in views], [record.offset for record in records]
        self.calls.append((names, offsets, send_dead_letters))
        if self.refusals:
            raise self.refusals.pop(0)
        if self.poison and self.poison[0] in names and self.poison[1] in set(offsets) - defects.keys():
            raise ValueError("poison")
        after = ViewProgress(next_offset, {})
        return [ProgressUpdate(view.position, after, partition) for view in views]


@dataclasses.dataclass
class Bench:
    store: FakeRowStore
    log: FakeLog
    stage: RecordingStage

    def reached(self, view: str, offset: int) -> None:
        self.store.stored[view, "source-0"] = ViewProgress(offset, {}, b"before")

    async def handle(self, start: int, stop: int) -> Slice:
        slice_ = Slice("orders", 0, [order(n, n) for n in range(start, stop)], caught_up=False)
        await self.stage.handle(slice_)
        return slice_


def running(check: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a check on a stage with two views, then release it."""

    async def go() -> None:
        store, log = FakeRowStore(), FakeLog([order(n, n) for n in range(40)])
        generations = await started_generations(store, BY_ID, BY_SHOP)
        sinks = [FakeSink("by_id"), FakeSink("by_shop")]
        bench = Bench(store, log, RecordingStage("orders", sinks, store, generations, log.opened))
        try:
            await check(bench)
        finally:
            await bench.stage.release()

    asyncio.run(go())


def test_slice_goes_to_all_views_at_once_and_is_acknowledged_after_their_progress() -> None:
    async def check(bench: Bench) -> None:
        slice_ = await bench.handle(0, 3)
        assert bench.stage.calls == [(["by_id", "by_shop"], [0, 1, 2], True)]
        assert slice_.acked
        assert {key: value.next_offset for key, value in bench.store.stored.items()} == {
            ("by_id", "source-0"): 3,
            ("by_shop", "source-0"): 3,
        }

    running(check)


def test_view_that_is_ahead_skips_what_it_has_and_dead_letters_are_sent_once() -> None:
    async def check(bench: Bench) -> None:
        bench.reached("by_shop", 2)
        await bench.handle(0, 3)
        assert bench.stage.calls == [(["by_id"], [0, 1, 2], True), (["by_shop"], [2], False)]

    running(check)


def test_slice_that_every_view_has_is_acknowledged_without_work() -> None:
    async def check(bench: Bench) -> None:
        bench.reached("by_id", 5)
        bench.reached("by_shop", 9)
        slice_ = await bench.handle(0, 3)
        assert (bench.stage.calls, slice_.acked) == ([], True)

    running(check)


def test_slice_waits_for_a_view_that_lags_a_little() -> None:
    async def check(bench: Bench) -> None:
        bench.reached("by_shop", 10)
        await bench.handle(10, 12)
        assert bench.stage.calls[-1] == (["by_id", "by_shop"], [10, 11], True)
        built = [
            offset for names, offsets, _ in bench.stage.calls if names == ["by_id"] for offset in offsets
        ]
        assert built == list(range(10))

    running(check)


def test_slice_does_not_wait_for_a_view_that_lags_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "JOIN_RECORDS", 5)

    async def check(bench: Bench) -> None:
        bench.log.gate = asyncio.Event()
        bench.reached("by_shop", 10)
        await bench.handle(10, 12)
        assert bench.stage.calls == [(["by_shop"], [10, 11], True)]
        progress = bench.stage.builds()["by_id"]
        assert (progress.records_left, progress.records_missing) == (12, 12)
        assert "by_shop" not in bench.stage.builds()

    running(check)


def test_records_without_any_live_view_still_become_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "JOIN_RECORDS", 5)

    async def check(bench: Bench) -> None:
        bench.log.gate = asyncio.Event()
        await bench.handle(10, 12)
        assert bench.stage.calls == [([], [10, 11], True)]

    running(check)


def test_refused_write_is_retried_from_the_stored_progress() -> None:
    async def check(bench: Bench) -> None:
        bench.stage.refusals.append(WriteConflictError("by_id", "changed"))
        slice_ = await bench.handle(0, 3)
        assert (len(bench.stage.calls), slice_.acked) == (2, True)

    running(check)


def test_view_that_fails_on_a_record_does_not_hold_up_the_others() -> None:
    async def check(bench: Bench) -> None:
        bench.stage.poison = "by_shop", 1
        with pytest.raises(ValueError, match="poison"):
            await bench.handle(0, 3)
        assert bench.stage.calls == [
            (["by_id", "by_shop"], [0, 1, 2], True),
            (["by_id"], [0, 1, 2], True),
            (["by_shop"], [0, 1, 2], False),
        ]
        assert bench.store.stored["by_id", "source-0"].next_offset == 3
        assert ("by_shop", "source-0") not in bench.store.stored

    running(check)


def test_isolated_record_is_passed_by_the_view_that_failed_on_it_alone() -> None:
    async def check(bench: Bench) -> None:
        bench.stage.poison = "by_shop", 1
        lanes = Lanes(1 << 20, 100, SliceObserver(), sleep=lambda _seconds: asyncio.sleep(0))
        slice_ = Slice("orders", 0, [order(n, n) for n in range(4)], caught_up=False)
        lanes.put(TP("orders", 0), slice_, bench.stage.handle)
        while not slice_.acked:  # noqa: ASYNC110  # the slice has no public event
            await asyncio.sleep(0)
        await lanes.close(drain_seconds=0)
        assert bench.store.stored["by_id", "source-0"].next_offset == 4
        assert bench.store.stored["by_shop", "source-0"].next_offset == 4
        assert bench.stage.calls[-2:] == [(["by_shop"], [1], True), (["by_shop"], [2, 3], True)]

    running(check)


def test_slice_is_not_acknowledged_if_every_attempt_is_refused() -> None:
    async def check(bench: Bench) -> None:
        bench.stage.refusals += [StateLostError("by_id", "gone")] * stage.ATTEMPTS_MAX
        with pytest.raises(StateLostError):
            await bench.handle(0, 3)
        assert not bench.stage.refusals

    running(check)


def test_due_builds_start_without_a_slice() -> None:
    async def check(bench: Bench) -> None:
        bench.log.gate = asyncio.Event()
        bench.reached("by_shop", 10)
        await bench.stage.start_builds({0: 10})
        assert bench.stage.builds().keys() == {"by_id"}
        bench.log.gate.set()
        while bench.stage.builds():  # noqa: ASYNC110  # the build is a task of the stage
            await asyncio.sleep(0)
        assert bench.store.stored["by_id", "source-0"].next_offset == 10

    running(check)


def test_release_cancels_builds_and_forgets_all_partitions() -> None:
    async def check(bench: Bench) -> None:
        bench.log.gate = asyncio.Event()
        await bench.stage.start_builds({0: 10})
        await bench.stage.release()
        assert not bench.stage.builds()

    running(check)


@pytest.mark.parametrize(("reads", "partitions"), [(1, 1), (2, 1), (3, 1), (4, 3), (5, 3), (9, 3)])
def test_partition_that_is_released_while_builds_are_started_gets_none(reads: int, partitions: int) -> None:
    """The release comes during each read of the store, of the first partition or of a later one."""

    async def check(bench: Bench) -> None:
        store: Any = bench.store
        read, count = store.progress, 0
        bench.log.gate = asyncio.Event()

        async def progress(names: Sequence[tuple[str, str]]) -> list[ViewProgress]:
            nonlocal count
            count += 1
            if count == reads:
                await bench.stage.release()
            found: list[ViewProgress] = await read(names)
            return found

        store.progress = progress
        await bench.stage.start_builds(dict.fromkeys(range(partitions), 10))
        assert not bench.stage.builds()
        assert [task.get_name() for task in asyncio.all_tasks() if "build" in task.get_name()] == []

    running(check)


def test_records_that_retention_deleted_are_a_metric() -> None:
    async def check(bench: Bench) -> None:
        view = ViewPartition(FakeSink("by_id"), "source-5", 5, progress=ViewProgress(3))
        bench.stage.report_removed(view, 4)
        labels = {"view": "by_id", "partition": "5"}
        assert REGISTRY.get_sample_value("driftline_feature_records_removed", labels) == 4
        assert view.records_removed == 4

    running(check)


def test_public_watermark_is_the_watermark_less_the_lateness() -> None:
    assert public_watermark("v", NEVER, 5) is None
    assert public_watermark("v", 100, 5) == 95
