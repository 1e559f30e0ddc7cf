"""The first stage: late events, dead letters, direct writes and forwarded events."""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from services.features.decoder import SourceDecoder, source_of
from services.features.source_stage import GENERATION_HEADER, SourceStage
from services.features.view_state import ViewLogic
from services.features.view_writer import ViewWriter
from streams import codec, topics
from streams.slices import Slice
from tests.unit.features.fakes import (
    BY_ID,
    BY_SHOP,
    NOON_MS,
    SOURCE,
    FakeLog,
    FakeProducer,
    FakeRowStore,
    heartbeat,
    order,
    started_generations,
)

INNER = topics.repartition("by_shop")


def running(check: Callable[[SourceStage, FakeRowStore, FakeProducer], Awaitable[None]]) -> None:
    async def go() -> None:
        store: Any = FakeRowStore()
        producer: Any = FakeProducer({INNER: 3, topics.late("by_id"): 2, topics.late("by_shop"): 2})
        generations = await started_generations(store, BY_ID, BY_SHOP)
        writers = [ViewWriter(ViewLogic("p", view), store, producer) for view in (BY_ID, BY_SHOP)]
        decoder = SourceDecoder(SOURCE, 1000)
        stage = SourceStage(decoder, writers, store, producer, generations, FakeLog([]).opened)
        await check(stage, store, producer)
        await stage.release()

    asyncio.run(go())


def slice_of(*records: Any) -> Slice:
    return Slice(SOURCE.topic, 0, records, caught_up=False)


def test_event_is_written_directly_and_forwarded_to_the_partition_of_its_entity() -> None:
    async def check(stage: SourceStage, store: FakeRowStore, producer: FakeProducer) -> None:
        await stage.handle(slice_of(order(0, 10), order(1, 11, shop="dock")))
        assert len(store.rows) == 1, "both orders have the same id"
        events = [(n, record) for n, record in producer.sent_to(INNER) if record[1] is not None]
        shops = [json.loads(record[1])["shop"] for _, record in events]
        assert sorted(shops) == ["dock", "mill"]
        for (partition, (key, _, headers)), shop in zip(events, shops, strict=True):
            assert key == msgspec.json.encode([shop])
            assert partition == zlib.crc32(key) % 3
            assert source_of(headers) == (0, 0 if shop == "mill" else 1)
            assert dict(headers)[GENERATION_HEADER] == b"1"

    running(check)


def test_slice_writes_no_heartbeat_and_stores_its_watermark_after_what_it_has_forwarded() -> None:
    async def check(stage: SourceStage, store: FakeRowStore, producer: FakeProducer) -> None:
        await stage.handle(slice_of(order(0, 10), heartbeat(1, 20)))
        assert [record[1] for _, record in producer.sent_to(INNER) if record[1] is None] == []
        assert store.stored["by_shop", "source-0"].watermarks_ms == {0: NOON_MS + 20_000}

    running(check)


def test_watermark_is_published_for_the_direct_view_only() -> None:
    async def check(stage: SourceStage, store: FakeRowStore, producer: FakeProducer) -> None:
        await stage.handle(slice_of(heartbeat(0, 20)))
        assert store.watermarks_ms == {("by_id", 0): NOON_MS + 20_000 - SOURCE.lateness_ms}

    running(check)


def test_late_event_goes_to_the_late_topic_of_every_view_and_is_not_applied() -> None:
    async def check(stage: SourceStage, store: FakeRowStore, producer: FakeProducer) -> None:
        late = order(1, 14)
        await stage.handle(slice_of(order(0, 20), late))
        for view in ("by_id", "by_shop"):
            ((partition, record),) = producer.sent_to(topics.late(view))
            assert (partition, record) == (0, (b"k", late.value, [("driftline-source", b"0:1")]))
        assert late.value not in [record[1] for _, record in producer.sent_to(INNER)]

    running(check)


def test_invalid_record_is_one_dead_letter_for_all_views() -> None:
    async def check(stage: SourceStage, store: FakeRowStore, producer: FakeProducer) -> None:
        bad = order(0, 10)
        bad.value = b"{"
        await stage.handle(slice_of(bad, order(1, 10)))
        assert [letter.offset for letter in producer.dead_letters] == [0]
        assert len(store.rows) == 1

    running(check)


def test_isolated_record_is_a_letter_that_names_its_views_and_the_watermark_waits_for_others() -> None:
    async def check(stage: SourceStage, store: FakeRowStore, producer: FakeProducer) -> None:
        await stage.handle(slice_of(order(0, 10)).as_defect("defect: KeyError: 'x'"))
        (letter,) = producer.dead_letters
        assert (letter.offset, letter.kind) == (0, "defect")
        assert letter.reason == "defect: KeyError: 'x' (skipped by by_id, by_shop)"
        assert store.rows == {}
        assert producer.sent_to(INNER) == []
        assert {progress.next_offset for progress in store.stored.values()} == {1}
        await stage.handle(slice_of(order(1, 9)))
        assert len(store.rows) == 1

    running(check)


def test_isolated_heartbeat_is_a_letter_and_moves_no_watermark() -> None:
    async def check(stage: SourceStage, store: FakeRowStore, producer: FakeProducer) -> None:
        await stage.handle(slice_of(heartbeat(0, 20)).as_defect("defect"))
        (letter,) = producer.dead_letters
        assert (letter.value, letter.headers) == (None, codec.heartbeat(NOON_MS + 20_000))
        assert store.watermarks_ms == {}

    running(check)


def test_event_without_entity_is_not_forwarded() -> None:
    async def check(stage: SourceStage, store: FakeRowStore, producer: FakeProducer) -> None:
        await stage.handle(slice_of(order(0, 10, shop=None)))
        assert [record for _, record in producer.sent_to(INNER) if record[1] is not None] == []

    running(check)
