"""Builds of views while other views continue, and concurrent writers, on a real Valkey."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.feature_store import feast_layout
from services.features import stage
from services.features.decoder import SourceDecoder
from services.features.generations import NOW, Generations, SupersededError
from services.features.row_store import WriteConflictError
from services.features.state_cache import StateCachePool
from services.features.view_progress import ProgressUpdate, ViewGeneration, ViewPosition, ViewProgress
from services.features.view_state import Event, ViewLogic
from services.features.view_writer import ViewWriter
from services.runtime import watermarks
from services.runtime.settings import Settings
from tests.feature_worker import (
    START_MS,
    Work,
    Worker,
    append,
    expected,
    loaded,
    source,
    source_records,
    stored,
    views,
)
from tests.marks import read_marks

END_MS = START_MS + 3_600_000


@pytest.fixture
def settings(valkey: str) -> Settings:
    return Settings(redis_url=valkey)


def after_all_events(settings: Settings, then: Callable[[Worker, Work], Awaitable[None]]) -> None:
    """Let a worker process all events, then continue with it."""

    async def go() -> None:
        worker = Worker(loaded(), settings, "", {})
        async with worker.opened() as work:
            await worker.consume(work)
            await then(worker, work)

    asyncio.run(go())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # the condition is in the store
        await asyncio.sleep(0.01)


def test_emptied_store_is_rebuilt_without_new_records(settings: Settings, client: Any) -> None:
    async def then(worker: Worker, work: Work) -> None:
        client.flushdb()
        gate = worker.broker.gate = asyncio.Event()
        await work.check_store(worker.committed)
        assert set(work.builds()) == {"direct", "moved"}
        assert read_marks(client, ["p.direct"]) == {"p.direct": None}
        gate.set()
        await worker.consume(work)

    after_all_events(settings, then)
    assert stored(client) == expected("")
    assert read_marks(client, ["p.direct", "p.moved"]) == {"p.direct": END_MS, "p.moved": END_MS}


def test_emptied_store_is_noticed_by_the_next_slice(settings: Settings, client: Any) -> None:
    async def then(worker: Worker, work: Work) -> None:
        client.flushdb()
        append(worker.broker.logs, 0, None, [])  # a record without value and heartbeat
        await worker.consume(work)
        assert "direct" in str(stored(client))
        await work.check_store(worker.committed)  # the other partition gets no record
        await worker.consume(work)

    after_all_events(settings, then)
    assert stored(client) == expected("")


def test_views_continue_while_another_is_built(
    settings: Settings, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "JOIN_RECORDS", 0)

    async def then(worker: Worker, work: Work) -> None:
        gate = worker.broker.gate = asyncio.Event()
        (build,) = await work.store.generations(["moved"])
        await work.generations.begin_next("moved", build, "requested")
        await work.check_store(worker.committed)
        event = b'{"id": "0-new", "event_time": "2013-07-01T14:00:00Z", "shop": "mill", "amount": 1}'
        append(worker.broker.logs, 0, event, [])
        consuming = asyncio.create_task(worker.consume(work))
        await until(lambda: any(b"0-new" in key for key in client.scan_iter()))
        assert "moved" in work.builds()
        assert "direct" not in work.builds()
        gate.set()
        await consuming
        assert not work.builds()

    after_all_events(settings, then)
    rows = stored(client)
    mill = next(row for key, row in rows.items() if b"mill" in key)
    assert mill[feast_layout.timestamp_field("moved")] == feast_layout.encode_timestamp(START_MS + 7_200_000)


def test_records_deleted_by_retention_are_reported(settings: Settings, client: Any) -> None:
    async def then(worker: Worker, work: Work) -> None:
        client.flushdb()
        worker.broker.earliest = 7
        worker.broker.gate = asyncio.Event()
        await work.check_store(
            {key: offset for key, offset in worker.committed.items() if key[0] == "orders"}
        )
        await until(lambda: bool(work.builds()["direct"].records_removed))
        assert str(work.builds()["direct"]).endswith("retention deleted 14 records")
        worker.broker.gate.set()
        await worker.consume(work)

    after_all_events(settings, then)
    labels = {"view": "direct", "partition": "0"}
    assert REGISTRY.get_sample_value("driftline_feature_records_removed", labels) == 7
    assert stored(client) == expected("", first_offset=7)


def test_invalid_records_are_counted_in_a_build_without_a_second_dead_letter(
    settings: Settings, client: Any
) -> None:
    labels = {"view": "direct", "result": "invalid"}

    def invalid() -> float:
        return REGISTRY.get_sample_value("driftline_feature_events_total", labels) or 0

    async def then(worker: Worker, work: Work) -> None:
        before, letters = invalid(), len(worker.broker.logs["dead", 0])
        client.flushdb()
        await work.check_store(worker.committed)
        await worker.consume(work)
        assert letters > 0
        assert len(worker.broker.logs["dead", 0]) == letters
        assert invalid() == before + letters

    after_all_events(settings, then)


def test_foreign_record_in_an_internal_topic_is_a_dead_letter_and_an_old_one_is_not(
    settings: Settings, client: Any
) -> None:
    async def then(worker: Worker, work: Work) -> None:
        partition = ("driftline.repartition.moved", 0)
        letters, log = list(worker.broker.logs["dead", 0]), worker.broker.logs[partition]
        before = stored(client)
        old = [header for header in log[0].headers if header[0] == "driftline-source"]
        for value, headers in ((b"foreign", []), (log[0].value, old)):
            log.append(dataclasses.replace(log[0], offset=len(log), value=value, headers=headers))
        await worker.consume(work)
        assert [r.value for r in worker.broker.logs["dead", 0][len(letters) :]] == [b"foreign"]
        assert stored(client) == before

    after_all_events(settings, then)


def test_lost_rows_with_stored_progress_are_rebuilt(settings: Settings, client: Any) -> None:
    async def then(worker: Worker, work: Work) -> None:
        (before,) = await work.store.generations(["direct"])
        key = next(key for key in client.scan_iter() if b"0-1" in key)
        client.delete(key)
        event = b'{"id": "0-1", "event_time": "2013-07-01T14:00:00Z", "shop": "mill", "amount": 1}'
        append(worker.broker.logs, 0, event, [])
        await worker.consume(work)
        (after,) = await work.store.generations(["direct"])
        assert before is not None
        assert after is not None
        assert after.number > before.number

    after_all_events(settings, then)
    rows, field = stored(client), feast_layout.sidecar_field("direct")
    logic = ViewLogic("p", views("")[0])
    for key, row in expected("").items():
        if b"0-1" in key:
            ours, theirs = (logic.load(one[field]).history for one in (rows[key], row))
            assert len(ours) == len(theirs) + 1
        elif b"shop" not in key:
            assert rows[key] == row


def test_unreadable_state_is_rebuilt(settings: Settings, client: Any) -> None:
    after_all_events(settings, _nothing)
    field = feast_layout.sidecar_field("direct")
    for key in list(client.scan_iter(b"*id*")):
        version = feast_layout.sidecar_version(client.hget(key, field))
        client.hset(key, field, version + b"of another layout")

    async def then(worker: Worker, work: Work) -> None:
        event = b'{"id": "0-1", "event_time": "2013-07-01T12:00:00Z", "shop": "mill", "amount": 1}'
        append(worker.broker.logs, 0, event, [])  # late: it changes nothing
        event = b'{"id": "1-1", "event_time": "2013-07-01T14:00:00Z", "shop": "mill", "amount": 1}'
        append(worker.broker.logs, 1, event, [])
        await worker.consume(work)
        await work.check_store(worker.committed)
        await worker.consume(work)

    async def restarted() -> None:
        worker = Worker(loaded(), settings, "", {})
        worker.committed = {partition: len(log) for partition, log in worker.broker.logs.items()}
        async with worker.opened() as work:
            await then(worker, work)

    asyncio.run(restarted())
    for key, row in stored(client).items():
        assert not row.get(field, b"").endswith(b"of another layout"), key


async def _nothing(_worker: Worker, _work: Work) -> None:
    """End the worker."""


def test_concurrent_workers_on_one_entity_lose_no_event(settings: Settings, client: Any) -> None:
    view = views("")[0]

    async def then(worker: Worker, work: Work) -> None:
        (build,) = await work.store.generations(["direct"])
        assert build is not None
        logic = ViewLogic("p", view)
        producer: Any = worker.broker
        our_caches, their_caches = StateCachePool(0), StateCachePool(0)
        ours = ViewWriter(logic, work.store, producer, our_caches)
        theirs = ViewWriter(logic, work.store, producer, their_caches)
        decoder = SourceDecoder(source(), 1000)

        def event(partition: int, offset: int) -> Event:
            record: Any = dataclasses.replace(source_records()["orders", 0][0], partition=9)
            return decoder.decode_record(record, partition, offset)

        at = {n: ViewPosition("direct", build.number, f"source-{n}", ViewProgress()) for n in (8, 9)}
        await ours.write(8, at[8], [event(8, 0)])
        our_caches.bytes_max = their_caches.bytes_max = 1 << 20  # from here on they cache
        await ours.write(8, at[8], [event(8, 1)])
        await theirs.write(9, at[9], [event(9, 0)])
        with pytest.raises(WriteConflictError):
            await ours.write(8, at[8], [event(8, 2)])
        ours.forget(8)
        await ours.write(8, at[8], [event(8, 2)])
        key = logic.key_of(logic.entity(event(8, 0).value) or ())
        offsets, _ = feast_layout.decode_sidecar(client.hget(key, feast_layout.sidecar_field("direct")))
        assert {8: 2, 9: 0}.items() <= offsets.items()

    after_all_events(settings, then)


def test_progress_and_watermark_change_only_from_the_stored_progress(settings: Settings, client: Any) -> None:
    async def then(_worker: Worker, work: Work) -> None:
        (build,) = await work.store.generations(["direct"])
        (known,) = await work.store.progress([("direct", "source-0")])
        assert build is not None
        at = ViewPosition("direct", build.number, "source-0", known)
        outdated = dataclasses.replace(at, progress=ViewProgress())
        of_another = dataclasses.replace(at, generation=build.number - 1)
        for standing in (outdated, of_another):
            with pytest.raises(WriteConflictError):
                await work.store.update_progress([ProgressUpdate(standing, ViewProgress(1), 0, START_MS)])
        (found,) = await work.store.progress([("direct", "source-0")])
        assert found == known
        (updated,) = await work.store.update_progress(
            [ProgressUpdate(at, ViewProgress(known.next_offset + 1), 0, END_MS + 1)]
        )
        assert [updated] == await work.store.progress([("direct", "source-0")])

    after_all_events(settings, then)
    assert client.hget(watermarks.key("p.direct"), "0") == str(END_MS + 1).encode()


def test_only_the_first_of_several_workers_begins_a_generation(settings: Settings, client: Any) -> None:
    async def then(_worker: Worker, work: Work) -> None:
        (build,) = await work.store.generations(["direct"])
        begin = work.store.begin_generation
        await asyncio.gather(
            *(begin("direct", 2, expected=build, definition=str(n), start=NOW) for n in range(5))
        )
        (found,) = await work.store.generations(["direct"])
        assert build is not None
        assert found is not None
        assert found.number > build.number
        await begin("direct", 2, expected=build, definition="too late", start=NOW)
        assert await work.store.generations(["direct"]) == [found]

    after_all_events(settings, then)


def test_definition_of_a_newer_process_is_not_overwritten(settings: Settings, client: Any) -> None:
    async def then(_worker: Worker, work: Work) -> None:
        changed = [dataclasses.replace(view, hop_ms=120_000) for view in views("")]
        newer = Generations(work.store, "p", changed)
        await newer.start({"direct": 2, "moved": 3}, {"direct": "", "moved": ""})
        await work.generations.check()
        assert work.generations.superseded() == ["direct", "moved"]
        with pytest.raises(SupersededError):
            work.generations.current("direct")
        assert isinstance(newer.current("direct"), ViewGeneration)

    after_all_events(settings, then)


def test_rows_of_another_definition_are_deleted_and_those_of_this_one_stay(
    settings: Settings, client: Any
) -> None:
    async def then(worker: Worker, work: Work) -> None:
        before = stored(client)
        await work.generations.sweep()
        assert stored(client) == before
        await work.generations.check()
        client.set("text-p", "no row")
        changed = [dataclasses.replace(view, hop_ms=120_000) for view in views("")][:1]
        newer = Generations(work.store, "p", changed)
        await newer.start({"direct": 2}, {"direct": ""})
        await newer.sweep()
        assert client.get("text-p") == b"no row"
        client.delete("text-p")
        (build,) = await work.store.generations(["moved"])
        assert build is not None
        fields = [feast_layout.sidecar_field("moved")]
        assert await work.store.sweep("moved", build.number - 1, fields) == 0  # an earlier generation
        moved = {key: row for key, row in before.items() if b"shop" in key}
        assert stored(client) == moved
        assert not any(build and build.unswept for build in await work.store.generations(["direct", "moved"]))

    after_all_events(settings, then)


def test_view_built_from_now_on_reads_no_old_record(settings: Settings, client: Any) -> None:
    async def then(worker: Worker, work: Work) -> None:
        (build,) = await work.store.generations(["direct"])
        await work.generations.begin_next("direct", build, "requested", start=NOW)
        await work.check_store(worker.committed)
        assert not work.builds()
        event = b'{"id": "0-1", "event_time": "2013-07-01T14:00:00Z", "shop": "mill", "amount": 1}'
        append(worker.broker.logs, 0, event, [])
        await worker.consume(work)

    after_all_events(settings, then)
    row = next(row for key, row in stored(client).items() if b"0-1" in key)
    offsets, _ = feast_layout.decode_sidecar(row[feast_layout.sidecar_field("direct")])
    assert offsets == {0: len(source_records()["orders", 0])}
    logic = ViewLogic("p", views("")[0])
    assert len(logic.load(row[feast_layout.sidecar_field("direct")]).history) == 1
