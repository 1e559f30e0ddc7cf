"""Heartbeats of views with an internal topic: one for all source partitions, in every partition."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.features.decoder import ALL_SOURCES
from services.features.heartbeat_store import ForwardedProgress
from services.features.source_stage import GENERATION_HEADER
from services.features.view_heartbeats import ViewHeartbeats, heartbeat_due, interval_ms
from services.features.view_progress import ViewProgress
from services.runtime.watermarks import NEVER
from streams import codec, topics
from tests.unit.features.fakes import SOURCE, FakeProducer, FakeRowStore, generation

INNER = topics.repartition("by_shop")


def running(
    check: Callable[[ViewHeartbeats, FakeRowStore, FakeProducer], Awaitable[None]],
    *,
    sources: int = 2,
    partitions: int = 3,
) -> None:
    async def go() -> None:
        store: Any = FakeRowStore({"by_shop": generation(7)})
        producer: Any = FakeProducer({SOURCE.topic: sources, INNER: partitions})
        await check(ViewHeartbeats({"by_shop": SOURCE.topic}, store, producer), store, producer)

    asyncio.run(go())


def report(store: FakeRowStore, *watermarks_ms: int) -> None:
    """Store the watermarks of the first source partitions."""
    for number, watermark_ms in enumerate(watermarks_ms):
        store.stored["by_shop", f"source-{number}"] = ViewProgress(9, {number: watermark_ms})


@pytest.mark.parametrize(
    ("watermarks_ms", "written_ms", "expected"),
    [
        ([30, 20], None, 20),
        ([30, 20], 10, 20),
        ([30, 20], 20, None),
        ([30, None], None, None),
        ([30, NEVER], None, None),
        ([], None, None),
    ],
    ids=["first", "risen", "written", "one has no progress", "one has no event", "no partition"],
)
def test_heartbeat_is_the_lowest_watermark_of_all_source_partitions(
    watermarks_ms: list[int | None], written_ms: int | None, expected: int | None
) -> None:
    assert heartbeat_due(ForwardedProgress(7, watermarks_ms, written_ms)) == expected


def test_heartbeat_reaches_every_partition_once_with_its_generation() -> None:
    async def check(heartbeats: ViewHeartbeats, store: FakeRowStore, producer: FakeProducer) -> None:
        report(store, 30, 20)
        assert [await heartbeats.write("by_shop"), await heartbeats.write("by_shop")] == [True, False]
        headers = [*codec.heartbeat(20), ALL_SOURCES, (GENERATION_HEADER, b"7")]
        assert producer.sent_to(INNER) == [(number, (None, None, headers)) for number in range(3)]

    running(check)


def test_new_generation_is_told_again_whatever_was_written_before() -> None:
    async def check(heartbeats: ViewHeartbeats, store: FakeRowStore, producer: FakeProducer) -> None:
        report(store, 30, 20)
        await heartbeats.write("by_shop")
        store.current["by_shop"] = generation(8)
        report(store, 5, 6)
        assert await heartbeats.write("by_shop")
        assert codec.watermark_of(producer.sent_to(INNER)[-1][1][2]) == 5

    running(check)


def test_heartbeat_that_was_not_acknowledged_is_written_again() -> None:
    async def check(heartbeats: ViewHeartbeats, store: FakeRowStore, producer: Any) -> None:
        report(store, 30, 20)
        send, producer.send = producer.send, _fail
        with pytest.raises(OSError, match="away"):
            await heartbeats.write("by_shop")
        producer.send = send
        assert await heartbeats.write("by_shop")

    async def _fail(*_: object) -> None:
        raise OSError("away")

    running(check)


@pytest.mark.parametrize("sources", [1, 16, 64])
@pytest.mark.parametrize("processes", [1, 3])
def test_number_of_heartbeats_depends_on_the_partitions_of_the_view_alone(
    sources: int, processes: int
) -> None:
    """Ten intervals in which every source partition has new events, and every process looks."""

    async def check(heartbeats: ViewHeartbeats, store: Any, producer: Any) -> None:
        group = [heartbeats]
        group += [ViewHeartbeats({"by_shop": SOURCE.topic}, store, producer) for _ in range(processes - 1)]
        for interval in range(10):
            report(store, *(interval + number for number in range(sources)))
            store.claims.clear()
            for each in group:
                await each.write_in_turn()
        assert len(producer.sent_to(INNER)) == 10 * 4

    running(check, sources=sources, partitions=4)


@pytest.mark.parametrize("partitions", [1, 16, 64, 1000, 10_000])
def test_heartbeats_of_a_view_per_second_are_bounded(partitions: int) -> None:
    assert partitions / interval_ms(partitions) * 1000 <= 2000
