"""The pipeline on a real Redis Cluster: it talks to each node directly and follows slots that move."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from services.operations.local_servers.supervisor import Supervisor
from services.runtime.redis_commands import encode
from services.runtime.redis_pipeline import AsyncPipeline
from tests.servers import start_cluster, start_replica
from tests.waiting import until

KEYS = [f"key {number}" for number in range(50)]
READS = [encode(("HMGET", key, "field", "other")) for key in KEYS]
ROWS = [[key.encode(), None] for key in KEYS]
SLOT = 1000
TAG = next(f"{{{n}}}" for n in range(100_000) if redis.crc.key_slot(b"%d" % n) == SLOT)
"""Keys with it are in the slot."""


class Pipeline:
    """A pipeline for a test without an event loop, which counts the commands that go through redis-py."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self._runner = runner
        client = redis.asyncio.RedisCluster.from_url(url, protocol=2)
        self._pipeline = AsyncPipeline(client)
        self.through_redis_py = 0
        self._redis_py_pipeline = client.pipeline
        self._pipeline.client.pipeline = self._count

    def _count(self) -> Any:
        self.through_redis_py += 1
        return self._redis_py_pipeline()

    def exchange(self, *batches: Sequence[bytes]) -> list[Any]:
        return self._runner.run(self._pipeline.exchange(*batches))

    def exchange_once(self, commands: Sequence[bytes]) -> list[Any]:
        return self._runner.run(self._pipeline.exchange_once(commands))

    def close(self) -> None:
        self._runner.run(self._pipeline.close())


@pytest.fixture(scope="module")
def nodes(servers: Supervisor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[redis.Redis]]:
    """Three nodes with a third of the slots each, and a row for each key."""
    node_ports = start_cluster(servers, tmp_path_factory.mktemp("cluster"))
    with redis.RedisCluster("127.0.0.1", node_ports[0]) as client:
        for key in KEYS:
            client.hset(key, "field", key)
    nodes = [redis.Redis(port=port) for port in node_ports]
    assert all(node.dbsize() for node in nodes)
    yield nodes
    for node in nodes:
        node.close()


@contextlib.contextmanager
def opened(port: int) -> Iterator[Pipeline]:
    with asyncio.Runner() as runner:
        pipeline = Pipeline(f"redis://127.0.0.1:{port}", runner)
        yield pipeline
        pipeline.close()


@pytest.fixture
def pipeline(nodes: list[redis.Redis]) -> Iterator[Pipeline]:
    with opened(port_of(nodes[0])) as pipeline:
        yield pipeline


def port_of(node: redis.Redis) -> int:
    port: int = node.connection_pool.connection_kwargs["port"]
    return port


def test_each_node_is_asked_for_its_own_keys_without_redis_py(pipeline: Pipeline) -> None:
    """Replies are in the order of the commands, over all batches."""
    first = encode(("HGETALL", KEYS[0]))
    for _ in range(2):
        assert pipeline.exchange([first], READS, []) == [[b"field", b"key 0"], *ROWS]
    assert pipeline.through_redis_py == 0


def test_an_error_of_one_node_is_raised_and_the_next_replies_are_the_next_ones(pipeline: Pipeline) -> None:
    """No node is left with replies that nobody has read."""
    wrong = encode(("INCR", KEYS[0]))
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        pipeline.exchange([wrong, *READS])
    assert pipeline.exchange(READS) == ROWS


def test_a_slot_is_followed_while_it_moves_and_when_it_has(
    pipeline: Pipeline, nodes: list[redis.Redis]
) -> None:
    """While half of its keys are at the old node: ASK. Once all are at the new one: MOVED, only once."""
    keys = [f"{TAG}{number}" for number in range(4)]
    commands = [encode(("HGETALL", key)) for key in keys]
    with redis.RedisCluster("127.0.0.1", port_of(nodes[0])) as client:
        for key in keys:
            client.hset(key, "field", key)
        owner = client.get_node_from_key(keys[0]).port
    old, new = sorted(nodes[:2], key=lambda node: port_of(node) != owner)
    expected = [[b"field", key.encode()] for key in keys]
    assert pipeline.exchange(commands, READS) == expected + ROWS
    names = {node: node.execute_command("CLUSTER", "MYID").decode() for node in (old, new)}
    new.execute_command("CLUSTER", "SETSLOT", SLOT, "IMPORTING", names[old])
    old.execute_command("CLUSTER", "SETSLOT", SLOT, "MIGRATING", names[new])
    old.migrate("127.0.0.1", port_of(new), keys[:2], 0, 5000)
    assert pipeline.exchange(commands, READS) == expected + ROWS
    assert pipeline.through_redis_py == 1
    old.migrate("127.0.0.1", port_of(new), keys[2:], 0, 5000)
    for node in (new, old):
        node.execute_command("CLUSTER", "SETSLOT", SLOT, "NODE", names[new])
    assert pipeline.exchange(commands, READS) == expected + ROWS
    assert pipeline.through_redis_py == 2
    assert pipeline.exchange(commands, READS) == expected + ROWS
    assert pipeline.through_redis_py == 2


def test_a_dead_connection_to_one_node_is_replaced(pipeline: Pipeline, nodes: list[redis.Redis]) -> None:
    """Its commands go through redis-py this once."""
    assert pipeline.exchange(READS) == ROWS
    nodes[1].execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert pipeline.exchange(READS) == ROWS
    assert pipeline.exchange(READS) == ROWS
    assert pipeline.through_redis_py <= 1


def test_what_is_sent_once_is_not_repeated_over_a_new_connection(nodes: list[redis.Redis]) -> None:
    """It may have been executed, so the caller gets the error; the next exchange works again."""
    count = encode(("HINCRBY", "counter", "field", 1))
    with opened(port_of(nodes[0])) as pipeline:
        assert pipeline.exchange_once([*READS, count]) == [*ROWS, 1]
        for node in nodes:
            node.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(RedisConnectionError, match="lost"):
            pipeline.exchange_once([count])
        assert pipeline.exchange_once([count]) in ([2], [3])
        wrong = encode(("INCR", KEYS[0]))
        *rows, error = pipeline.exchange_once([*READS, wrong])
        assert rows == ROWS
        assert isinstance(error, ResponseError)


def test_the_successor_of_a_node_that_is_gone_is_asked(tmp_path: Path) -> None:
    """A replica takes over; readers notice at their next read."""
    with Supervisor() as servers:
        node_ports = start_cluster(servers, tmp_path)
        lost, *others = (redis.Redis(port=port) for port in reversed(node_ports))
        replica = redis.Redis(port=start_replica(servers, tmp_path / "replica", lost))
        with redis.RedisCluster("127.0.0.1", node_ports[0]) as client:
            for key in KEYS:
                client.hset(key, "field", key)
        until(lambda: rows_of(replica) == rows_of(lost) > 0, "the replica has all rows")
        with opened(node_ports[0]) as pipeline:
            assert pipeline.exchange(READS) == ROWS
            name = lost.execute_command("CLUSTER", "MYID")
            server: Any = lost.info("server")
            os.kill(server["process_id"], signal.SIGKILL)
            replica.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
            until(
                lambda: all(has_no_slots(other, name) for other in others), "the others know of the failover"
            )
            assert pipeline.exchange(READS) == ROWS
            assert pipeline.through_redis_py == 1
            assert pipeline.exchange(READS) == ROWS
            assert pipeline.through_redis_py == 1
        for node in (lost, *others, replica):
            node.close()


def rows_of(node: redis.Redis) -> int:
    rows: Any = node.dbsize()
    return int(rows)


def has_no_slots(node: redis.Redis, name: bytes) -> bool:
    """Tell whether a node has heard that another one has none any more."""
    slots: Any = node.execute_command("CLUSTER", "SLOTS")
    return all(name.decode() not in str(part) for part in slots)
