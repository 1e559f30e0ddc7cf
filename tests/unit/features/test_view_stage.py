"""The second stage: forwarded records of this generation, and the watermark over all source partitions."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from services.features.decoder import ALL_SOURCES, SourceDecoder, source_header
from services.features.row_store import StateLostError, WriteConflictError
from services.features.source_stage import GENERATION_HEADER
from services.features.view_partition import ViewPartition
from services.features.view_progress import ViewProgress
from services.features.view_stage import ViewStage
from services.features.view_state import ViewLogic
from services.features.view_writer import ViewWriter
from streams import codec, records, topics
from streams.slices import Slice
from tests.unit.features.fakes import (
    BY_SHOP,
    NOON_MS,
    SOURCE,
    FakeLog,
    FakeProducer,
    FakeRowStore,
    FakeSink,
    order,
    started_generations,
)

INNER = topics.repartition("by_shop")


SINK = FakeSink("by_shop")


def running(check: Callable[[ViewStage, FakeRowStore, FakeProducer], Awaitable[None]]) -> None:
    """Run a check on a stage whose source has two partitions."""

    async def go() -> None:
        store: Any = FakeRowStore()
        producer: Any = FakeProducer({SOURCE.topic: 2})
        generations = await started_generations(store, BY_SHOP)
        writer = ViewWriter(ViewLogic("p", BY_SHOP), store, producer)
        decoder = SourceDecoder(SOURCE, 1000)
        stage = ViewStage(decoder, writer, store, producer, generations, FakeLog([]).opened)
        await check(stage, store, producer)
        await stage.release()

    asyncio.run(go())


def forwarded(offset: int, second: int, generation: int = 1, source: tuple[int, int] = (0, 0)) -> Any:
    headers = [source_header(*source), (GENERATION_HEADER, b"%d" % generation)]
    return order(offset, second, topic=INNER, headers=headers)


def heartbeat(offset: int, second: int, source: tuple[str, bytes] = ALL_SOURCES) -> Any:
    headers = [*codec.heartbeat(NOON_MS + second * 1000), source, (GENERATION_HEADER, b"1")]
    return dataclasses.replace(forwarded(offset, second), value=None, headers=headers)


def slice_of(*records: Any) -> Slice:
    found: Sequence[Any] = records
    return Slice(INNER, 0, found, caught_up=False)


def test_watermark_is_that_of_the_last_heartbeat_of_all_source_partitions() -> None:
    async def check(stage: ViewStage, store: FakeRowStore, producer: FakeProducer) -> None:
        await stage.handle(slice_of(forwarded(0, 30), heartbeat(1, 30, source_header(0, -1))))
        assert (store.watermarks_ms, producer.dead_letters) == ({}, [])
        await stage.handle(slice_of(heartbeat(2, 20), heartbeat(3, 10), forwarded(4, 40)))
        assert store.watermarks_ms == {("by_shop", 0): NOON_MS + 20_000 - SOURCE.lateness_ms}

    running(check)


def test_stored_progress_does_not_grow_with_the_partitions_of_the_source() -> None:
    async def check(stage: ViewStage, store: FakeRowStore, producer: FakeProducer) -> None:
        events = [forwarded(number, 10, source=(number, 0)) for number in range(100)]
        await stage.handle(slice_of(*events, heartbeat(100, 20)))
        assert len(store.stored["by_shop", "view-0"].watermarks_ms) == 1

    running(check)


def test_record_of_an_earlier_generation_is_ignored() -> None:
    async def check(stage: ViewStage, store: FakeRowStore, producer: FakeProducer) -> None:
        slice_ = slice_of(forwarded(0, 10, generation=0), forwarded(1, 11, source=(0, 7)))
        await stage.handle(slice_)
        ((_, row),) = producer.sent_to(topics.FEATURE_LOG.name)
        assert msgspec.json.decode(row[1], type=records.FeatureRow).values == [1.0]
        assert (slice_.acked, producer.dead_letters) == (True, [])

    running(check)


def test_record_without_our_headers_is_a_dead_letter() -> None:
    async def check(stage: ViewStage, store: FakeRowStore, producer: FakeProducer) -> None:
        await stage.handle(slice_of(order(0, 10, topic=INNER)))
        assert [letter.reason for letter in producer.dead_letters] == [
            "the header driftline-source is missing"
        ]

    running(check)


def test_new_generation_of_another_worker_refuses_the_slice_and_is_followed() -> None:
    async def check(stage: ViewStage, store: FakeRowStore, producer: FakeProducer) -> None:
        await stage.handle(slice_of(forwarded(0, 10)))
        current = store.current["by_shop"]
        store.current["by_shop"] = dataclasses.replace(current, number=2)
        store.stored.clear()
        view = ViewPartition(SINK, "view-0", 0, generation=1, progress=ViewProgress(1))
        found: Sequence[Any] = [forwarded(1, 11, generation=2)]
        with pytest.raises(WriteConflictError, match="a new generation has begun"):
            await stage.process(0, found, 2, [view], send_dead_letters=True, defects={})

    running(check)


def test_deleted_records_are_an_error_only_if_the_view_has_progress() -> None:
    async def check(stage: ViewStage, store: FakeRowStore, producer: FakeProducer) -> None:
        view = ViewPartition(SINK, "view-0", 0, progress=ViewProgress())
        stage.report_removed(view, 3)
        view.progress = ViewProgress(1, {}, b"stored")
        with pytest.raises(StateLostError, match="retention deleted 3 forwarded records"):
            stage.report_removed(view, 3)

    running(check)


def test_records_are_skipped_while_the_view_is_built() -> None:
    async def check(stage: ViewStage, store: FakeRowStore, producer: FakeProducer) -> None:
        found: Sequence[Any] = [order(0, 10, topic=INNER)]
        assert await stage.process(0, found, 1, [], send_dead_letters=True, defects={}) == []
        assert producer.dead_letters == []

    running(check)
