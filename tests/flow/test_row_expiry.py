"""Redis forgets entities by the ttl of their view, and projects of one Redis do not touch each other."""

import asyncio
import dataclasses
from typing import Any

import pytest
import redis

from services.feature_store import feast_layout
from services.feature_store.plan import View
from services.features.row_store import RowStore
from services.features.view_progress import ViewPosition
from services.features.view_state import Event, ViewLogic
from services.features.view_writer import ViewWriter
from services.runtime.redis_commands import encode
from services.runtime.redis_pipeline import AsyncPipeline
from services.runtime.settings import Settings
from streams.outages import is_outage
from tests.feature_worker import START_MS, views

VIEW = views("")[0]
SHOP_KEY_LONG_SECONDS = 1000


class Producer:
    """Takes the feature log."""

    async def partitions(self, _topic: str) -> int:
        return 1

    async def send(self, *_: Any) -> None:
        return None


def event(offset: int) -> Event:
    fields = {key.name: "mill" for key in VIEW.join_keys} | {"shop": "mill", "amount": 1.0, "id": "mill"}
    return Event(type("Order", (), fields), START_MS + offset, 0, offset)


@dataclasses.dataclass
class World:
    """One project's writer on a real server."""

    valkey: str
    project: str = "p"
    expiry_seconds: int = 0

    def write(self, *batches: list[int]) -> None:
        async def go() -> None:
            pipeline = AsyncPipeline.connect(Settings(redis_url=self.valkey))
            producer: Any = Producer()
            logic = ViewLogic(self.project, VIEW)
            store = RowStore(pipeline, self.project)
            writer = ViewWriter(logic, store, producer, None, self.expiry_seconds)
            try:
                await store.begin_generation(VIEW.name, 1, expected=None, definition="d", start="earliest")
                (generation,) = await store.generations([VIEW.name])
                (progress,) = await store.progress([(VIEW.name, "source-0")])
                assert generation is not None
                at = ViewPosition(VIEW.name, generation.number, "source-0", progress)
                for offsets in batches:
                    await writer.write(0, at, [event(offset) for offset in offsets])
            finally:
                await pipeline.close()

        asyncio.run(go())

    def read(self) -> None:
        async def go() -> None:
            pipeline = AsyncPipeline.connect(Settings(redis_url=self.valkey))
            try:
                await pipeline.exchange([encode(("HMGET", key_of(self.project), "field"))])
            finally:
                await pipeline.close()

        asyncio.run(go())


def key_of(project: str = "p", view: View = VIEW) -> bytes:
    return feast_layout.entity_key_encoder(project, view.join_keys)(("mill",) * len(view.join_keys))


def test_each_write_puts_the_end_off(valkey: str, client: Any) -> None:
    world = World(valkey, expiry_seconds=SHOP_KEY_LONG_SECONDS)
    world.write([0])
    client.expire(key_of(), SHOP_KEY_LONG_SECONDS // 2)
    world.write([1])
    assert client.ttl(key_of()) > SHOP_KEY_LONG_SECONDS // 2


def test_an_entity_whose_view_has_lost_its_ttl_stays(valkey: str, client: Any) -> None:
    World(valkey, expiry_seconds=SHOP_KEY_LONG_SECONDS).write([0])
    World(valkey).write([1], [2])
    assert client.ttl(key_of()) == -1


def test_an_expired_entity_begins_anew(valkey: str, client: Any) -> None:
    world = World(valkey, expiry_seconds=SHOP_KEY_LONG_SECONDS)
    world.write([0])
    client.delete(key_of())
    world.write([1])
    sidecar = client.hget(key_of(), feast_layout.sidecar_field(VIEW.name))
    assert feast_layout.decode_sidecar(sidecar)[0] == {0: 1}


def test_a_value_of_somebody_else_under_the_key_of_an_entity_is_no_outage(valkey: str, client: Any) -> None:
    """Its records are isolated: nobody waits for ever for one entity."""
    client.set(key_of(), "of somebody else")
    for access in (lambda: World(valkey).write([0]), lambda: World(valkey).read()):
        with pytest.raises(redis.exceptions.ResponseError) as raised:
            access()
        assert not is_outage(raised.value)
    assert client.get(key_of()) == b"of somebody else"


def test_projects_with_views_of_one_name_keep_their_generations_and_rows(valkey: str, client: Any) -> None:
    async def sweep_of_shop() -> int:
        pipeline = AsyncPipeline.connect(Settings(redis_url=valkey))
        try:
            fields = [feast_layout.sidecar_field(VIEW.name), feast_layout.timestamp_field(VIEW.name)]
            return await RowStore(pipeline, "shop").sweep(VIEW.name, 2**52, fields)
        finally:
            await pipeline.close()

    for project in ("shop", "workshop"):
        World(valkey, project).write([0])
    assert len({*client.scan_iter(b"driftline:progress:*")}) == 2
    assert asyncio.run(sweep_of_shop()) == 1
    assert client.hget(key_of("shop"), feast_layout.sidecar_field(VIEW.name)) is None
    assert client.hget(key_of("workshop"), feast_layout.sidecar_field(VIEW.name)) is not None
