"""Both stages on a real Valkey, with a crash at each call to a sink, before and after its effect."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
import redis

from services.features.row_store import RowStore
from services.operations.local_servers.supervisor import Supervisor
from services.runtime import redis_clients, watermarks
from services.runtime.settings import Settings
from streams import codec
from tests.feature_worker import (
    EVENTS,
    INNER_PARTITIONS,
    START_MS,
    expected,
    run,
    stored,
)
from tests.marks import read_marks
from tests.servers import start_cluster, tls_before


@pytest.fixture
def settings(valkey: str) -> Settings:
    return Settings(redis_url=valkey)


def test_crash_at_any_call_leaves_the_same_store(settings: Settings, client: Any) -> None:
    undisturbed = run(settings, "")
    calls = next(undisturbed.calls)
    assert calls > 30
    assert stored(client) == expected("")
    dead = [record.value for record in undisturbed.logs["dead", 0]]
    assert dead == [b"{broken"] * 2
    for crash_at, after_effect in itertools.product(range(calls), (False, True)):
        client.flushdb()
        run(settings, "", crash_at, after_effect=after_effect)
        assert stored(client) == expected(""), f"call {crash_at}, after its effect: {after_effect}"
        marks = read_marks(client, ["p.direct", "p.moved"])
        assert marks == {"p.direct": START_MS + 3_600_000, "p.moved": START_MS + 3_600_000}
        assert {name: in_order(client, name) for name in marks} == marks


def in_order(client: Any, name: str) -> int | None:
    """Return the watermark of a view as a read of features finds it."""
    pairs = client.zrange(watermarks.order_key(name), 0, 0, withscores=True)
    return watermarks.first([part for pair in pairs for part in pair])


def test_order_of_watermarks_is_made_of_the_stored_ones_and_begins_anew_with_a_generation(
    settings: Settings, client: Any
) -> None:
    """The hash may be of a version that kept no order, and must not lose what it holds."""

    async def go() -> list[int | None]:
        store = RowStore.connect(settings, "p")
        client.hset(watermarks.key("p.v"), mapping={"0": START_MS + 5, "1": START_MS})
        await store.announce("v", 2)
        found = [in_order(client, "p.v")]
        await store.announce("v", 3)
        found.append(in_order(client, "p.v"))
        client.zadd(watermarks.order_key("p.v"), {"2": START_MS})
        await store.begin_generation("v", 2, expected=None, definition="d", start="earliest")
        found.append(in_order(client, "p.v"))
        await store.close()
        return found

    assert asyncio.run(go()) == [START_MS, None, None]
    assert client.zcard(watermarks.order_key("p.v")) == client.hlen(watermarks.key("p.v")) == 3


def test_rows_are_the_same_on_a_cluster(servers: Supervisor, tmp_path: Path) -> None:
    node_ports = start_cluster(servers, tmp_path)
    settings = Settings(redis_url=f"redis://127.0.0.1:{node_ports[0]}", redis_cluster=True)
    run(settings, "")
    rows: dict[bytes, dict[bytes, bytes]] = {}
    for port in node_ports:
        with redis.Redis(port=port) as node:
            own = stored(node)
            assert own  # the scripts have run on every node
            rows |= own
            node.script_flush()
    assert rows == expected("")
    run(settings, "another", crash_at=20, after_effect=True)
    with redis_clients.connect_blocking(settings) as client:
        marks = {name: client.hgetall(watermarks.key(name)) for name in ("p.directanother", "p.movedanother")}
    assert {watermarks.least(fields) for fields in marks.values()} == {START_MS + 3_600_000}


def test_rows_are_the_same_over_tls(valkey: str, client: Any, tmp_path: Path) -> None:
    with tls_before(valkey, tmp_path) as (url, authority):
        settings = Settings(redis_url=url, redis_cafile=authority)
        run(settings, "")
        assert stored(client) == expected("")
        with redis_clients.connect_blocking(settings) as blocking:
            assert blocking.ping()
        with pytest.raises(redis.ConnectionError, match="certificate"):
            redis_clients.connect_blocking(Settings(redis_url=url)).ping()


def test_late_events_go_to_the_late_topic_and_are_not_forwarded(settings: Settings, client: Any) -> None:
    broker = run(settings, "")
    logs = broker.logs.items()
    late = [record.value for (topic, _), log in logs if topic == "driftline.late.moved" for record in log]
    assert 0 < len(late) < EVENTS // 9 + 1
    inner = [log for (topic, _), log in logs if topic == "driftline.repartition.moved"]
    forwarded = [record.value for log in inner for record in log]
    assert not set(late) & set(forwarded)


def test_one_heartbeat_of_all_source_partitions_reaches_every_internal_partition(
    settings: Settings, client: Any
) -> None:
    broker = run(settings, "")
    for partition in range(INNER_PARTITIONS):
        log = broker.logs["driftline.repartition.moved", partition]
        (beat,) = [record for record in log if record.value is None]
        assert codec.watermark_of(beat.headers) == START_MS + 3_600_000
        assert log[-1] is beat, "all events up to it are before it"
