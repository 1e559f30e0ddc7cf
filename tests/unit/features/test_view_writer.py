"""Writing a view: cached states, repeats, the feature log, and rows of other generations."""

import asyncio
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from services.feature_store import feast_layout
from services.feature_store.erasures import digest_of
from services.features.decoder import SourceDecoder
from services.features.erased_events import ErasedEvents
from services.features.row_store import StateLostError, WriteConflictError
from services.features.state_cache import StateCachePool
from services.features.view_progress import ViewPosition, ViewProgress
from services.features.view_state import Event, ViewLogic
from services.features.view_writer import ViewWriter
from streams import records, topics
from streams.records import Erasure
from tests.unit.features.fakes import BY_ID, SOURCE, FakeProducer, FakeRowStore, order

LOGIC = ViewLogic("p", BY_ID)
KEY = LOGIC.key_of(("a",))
FIELD = feast_layout.sidecar_field("by_id")
AT = ViewPosition("by_id", 1, "source-0", ViewProgress())
DECODER = SourceDecoder(SOURCE, 1000)


def event(offset: int, **changes: Any) -> Event:
    return DECODER.decode_record(order(offset, offset, **changes), 0, offset)


def writer(store: FakeRowStore, producer: FakeProducer, bytes_max: int = 1 << 20) -> ViewWriter:
    fake_store: Any = store
    fake_producer: Any = producer
    return ViewWriter(LOGIC, fake_store, fake_producer, StateCachePool(bytes_max))


def offsets_in(store: FakeRowStore) -> dict[int, int]:
    return feast_layout.decode_sidecar(store.rows[KEY][FIELD])[0]


def test_state_is_read_once_and_kept_in_the_cache() -> None:
    store = FakeRowStore()
    view = writer(store, FakeProducer())
    asyncio.run(view.write(0, AT, [event(0)]))
    asyncio.run(view.write(0, AT, [event(1)]))
    assert (store.sidecars_read, offsets_in(store)) == (1, {0: 1})


def test_without_room_in_the_cache_each_write_reads_the_sidecar() -> None:
    store = FakeRowStore()
    view = writer(store, FakeProducer(), bytes_max=0)
    asyncio.run(view.write(0, AT, [event(0)]))
    asyncio.run(view.write(0, AT, [event(1)]))
    assert (store.sidecars_read, offsets_in(store)) == (2, {0: 1})


def test_repeated_events_write_and_log_nothing() -> None:
    store, producer = FakeRowStore(), FakeProducer()
    view = writer(store, producer)
    asyncio.run(view.write(0, AT, [event(0), event(1)]))
    before = dict(store.rows)
    asyncio.run(view.write(0, AT, [event(0), event(1)]))
    assert store.rows == before
    assert len(producer.sent) == 1


def test_each_changed_row_is_logged_before_it_is_written() -> None:
    class FailingStore(FakeRowStore):
        async def write(self, position: Any, field: bytes, writes: Any) -> None:
            raise OSError("away")

    producer = FakeProducer({topics.FEATURE_LOG.name: 3})
    with pytest.raises(OSError, match="away"):
        asyncio.run(writer(FailingStore(), producer).write(4, AT, [event(0)]))
    ((partition, (key, value, _)),) = producer.sent_to(topics.FEATURE_LOG.name)
    row = msgspec.json.decode(value, type=records.FeatureRow)
    assert (partition, key, row.view, row.entity, row.values) == (1, b"by_id", "by_id", ["a"], [1.0])


def test_writer_with_an_outdated_cache_is_refused_and_goes_on_after_it_forgets() -> None:
    store = FakeRowStore()
    ours, theirs = writer(store, FakeProducer()), writer(store, FakeProducer())
    asyncio.run(ours.write(0, AT, [event(0)]))
    asyncio.run(theirs.write(0, AT, [event(1)]))
    with pytest.raises(WriteConflictError):
        asyncio.run(ours.write(0, AT, [event(2)]))
    ours.forget(0)
    asyncio.run(ours.write(0, AT, [event(2)]))
    assert offsets_in(store) == {0: 2}


@pytest.mark.parametrize(
    "sidecar",
    [feast_layout.encode_sidecar({0: 7}, b"of another build", 9), b"\xff of another format"],
)
def test_state_of_another_generation_or_format_is_ignored(sidecar: bytes) -> None:
    class LenientStore(FakeRowStore):
        async def write(self, position: Any, field: bytes, writes: Any) -> None:
            for write in writes:
                self.rows[write.key] = write.fields

    store = LenientStore(rows={KEY: {FIELD: sidecar}})
    asyncio.run(writer(store, FakeProducer()).write(0, AT, [event(0)]))
    assert offsets_in(store) == {0: 0}


def test_state_that_cannot_be_read_is_a_loss() -> None:
    store = FakeRowStore(rows={KEY: {FIELD: feast_layout.encode_sidecar({0: 7}, b"broken", 1)}})
    with pytest.raises(StateLostError, match="by_id: a stored state cannot be read"):
        asyncio.run(writer(store, FakeProducer()).write(0, AT, [event(8)]))


def test_events_are_counted_by_what_became_of_them() -> None:
    def count(result: str) -> float:
        labels = {"view": "by_id", "result": result}
        return REGISTRY.get_sample_value("driftline_feature_events_total", labels) or 0

    results = ("applied", "repeated", "no_entity")
    before = [count(result) for result in results]
    nobody = DECODER.decode_record(order(3, 3, id_=None), 0, 3)
    view = writer(FakeRowStore(), FakeProducer())
    asyncio.run(view.write(0, AT, [event(0), event(1), nobody]))
    asyncio.run(view.write(0, AT, [event(1)]))
    assert [count(result) - was for result, was in zip(results, before, strict=True)] == [2, 1, 1]


@pytest.mark.parametrize("partitions", [1, 8, 64])
def test_memory_does_not_grow_with_the_entities_nor_with_the_partitions(partitions: int) -> None:
    """Each state is stored, and read again when its entity comes back."""
    store, pool = FakeRowStore(), StateCachePool(20_000)
    fake_store: Any = store
    fake_producer: Any = FakeProducer()
    view = ViewWriter(LOGIC, fake_store, fake_producer, pool)
    for number in range(2 * 1024):
        partition, entity = number % partitions, f"e{number % 1024}"
        at = ViewPosition("by_id", 1, f"source-{partition}", ViewProgress())
        asyncio.run(view.write(partition, at, [event(number, id_=entity)]))
        held = [pool.cache("by_id", each) for each in range(partitions)]
        assert sum(cache.size_bytes for cache in held) <= 20_000
    assert len(store.rows) == 1024
    assert sum(len(cache.entries) for cache in held) < 512


class LosingStore(FakeRowStore):
    """Finds that the rows of a write are gone."""

    async def write(self, position: ViewPosition, field: bytes, writes: Any) -> None:
        del field, writes
        raise StateLostError(position.view, "gone")


@pytest.mark.parametrize(("erased", "error"), [("a", WriteConflictError), ("b", StateLostError)])
def test_a_row_that_is_gone_is_no_loss_if_its_entity_was_erased(erased: str, error: type[Exception]) -> None:
    """The erasure is read only then; a loss would build the view again."""
    salt, store, producer = b"s" * 32, LosingStore(), FakeProducer()
    known = Erasure(
        erasure_id="e", join_keys=["id"], salt=salt, digest=digest_of(salt, {"id": erased}), at_ms=0,
        expires_ms=None, offsets={SOURCE.topic: [0]},
    )  # fmt: skip
    fakes: tuple[Any, Any] = (store, producer)
    view = ViewWriter(LOGIC, *fakes, StateCachePool(), erased=ErasedEvents(lambda: [known]))
    with pytest.raises(error):
        asyncio.run(view.write(0, AT, [event(0)]))
