"""What Driftline relies on beyond redis-py's documented interface, on a real Valkey.

If one of these fails after redis-py is upgraded, `services.runtime.redis_internals` needs another way.
"""

import asyncio
import importlib.metadata
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import uvloop
from redis._parsers.base import BaseParser
from redis.exceptions import AskError, MovedError, ResponseError, SlotNotCoveredError, TryAgainError

from services.runtime import redis_internals
from tests.waiting import LIVENESS_SECONDS

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
ECHO = b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n"
LOOPS = {"asyncio": None, "uvloop": uvloop.new_event_loop}


class Collector(asyncio.Protocol):
    """Takes over a transport, and keeps what it receives."""

    def __init__(self) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost.set_result(None)


def client_of(url: str) -> Any:
    return redis.asyncio.Redis.from_url(url, protocol=2)


def node_of(**options: Any) -> Any:
    return redis.asyncio.cluster.ClusterNode("127.0.0.1", 1, **options)


def test_exactly_the_release_is_installed_that_pyproject_pins() -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    assert f"redis[hiredis]=={importlib.metadata.version('redis')}" in dependencies


@pytest.mark.parametrize("loop", LOOPS)
def test_the_transport_of_a_connection_can_be_taken_over(loop: str, valkey: str) -> None:
    """The new protocol gets the replies and the end of the connection, and redis-py hears of that end."""

    async def take_over() -> tuple[bytes, list[bool]]:
        client = client_of(valkey)
        connection = redis_internals.new_connection(client)
        states = [connection.is_connected]
        await connection.connect()
        states.append(connection.is_connected)
        transport, protocol = redis_internals.transport_of(connection), Collector()
        transport.set_protocol(protocol)
        transport.write(ECHO)
        reply = await asyncio.wait_for(protocol.received, LIVENESS_SECONDS)
        transport.abort()
        await asyncio.wait_for(protocol.lost, LIVENESS_SECONDS)
        redis_internals.mark_closed(connection)
        states.append(connection.is_connected)
        await client.aclose()
        return reply, states

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(take_over()) == (b"$2\r\nhi\r\n", [False, True, False])


def test_a_connection_is_introduced_as_its_client_wants(valkey: str) -> None:
    """The database and the name of the client are set before the transport is taken over."""

    async def ask() -> bytes:
        client = redis.asyncio.Redis.from_url(f"{valkey.rpartition('/')[0]}/3", protocol=2, client_name="us")
        connection = redis_internals.new_connection(client)
        await connection.connect()
        transport, protocol = redis_internals.transport_of(connection), Collector()
        transport.set_protocol(protocol)
        transport.write(b"*2\r\n$6\r\nCLIENT\r\n$4\r\nINFO\r\n")
        info = await asyncio.wait_for(protocol.received, LIVENESS_SECONDS)
        transport.abort()
        await client.aclose()
        return info

    info = asyncio.run(ask())
    assert b" db=3 " in info
    assert b" name=us " in info
    assert b" resp=2 " in info


def test_the_pool_does_not_count_a_new_connection(valkey: str) -> None:
    """So a pool with a single connection still has it for redis-py's own commands."""

    async def ping() -> bool:
        client = redis.asyncio.Redis.from_url(valkey, protocol=2, max_connections=1)
        connection = redis_internals.new_connection(client)
        await connection.connect()
        has_answered: bool = await client.execute_command("PING")
        await connection.disconnect()
        await client.aclose()
        return has_answered

    assert asyncio.run(ping())


def test_a_connection_to_a_node_has_the_nodes_options_and_does_not_retry() -> None:
    connection = redis_internals.new_connection(None, node_of(password="secret", protocol=2))
    assert (connection.host, connection.port, connection.password) == ("127.0.0.1", 1, "secret")
    assert connection.retry.get_retries() == 0


def test_a_node_that_is_gone_is_an_error_at_once() -> None:
    async def connect() -> None:
        await redis_internals.new_connection(None, node_of(protocol=2)).connect()

    with pytest.raises(redis.ConnectionError):
        asyncio.run(connect())


def test_only_clients_of_clusters_are_known_as_such(valkey: str) -> None:
    assert not redis_internals.is_cluster(client_of(valkey))
    assert redis_internals.is_cluster(redis.asyncio.RedisCluster("127.0.0.1", 1))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"-ERR unknown command\r\n", ResponseError),
        (b"-MOVED 1000 10.0.0.1:6380\r\n", MovedError),
        (b"-ASK 1000 10.0.0.1:6380\r\n", AskError),
        (b"-TRYAGAIN multiple keys\r\n", TryAgainError),
        (b"-NOSCRIPT no matching script\r\n", redis.exceptions.NoScriptError),
        (b"-LOADING the dataset\r\n", redis.exceptions.BusyLoadingError),
    ],
)
def test_errors_of_the_server_are_returned_as_redis_pys_exceptions(
    line: bytes, kind: type[Exception]
) -> None:
    reader = redis_internals.new_reply_reader()
    reader.feed(line + b"+OK\r\n")
    error = reader.gets()
    assert type(error) is kind
    assert reader.gets() == b"OK"


def test_a_redirection_names_slot_and_node() -> None:
    reader = redis_internals.new_reply_reader()
    reader.feed(b"-MOVED 1000 10.0.0.1:6380\r\n")
    moved: Any = reader.gets()
    assert (moved.slot_id, moved.host, moved.port) == (1000, "10.0.0.1", 6380)


def test_a_cluster_says_which_node_owns_a_key_once_it_has_a_map() -> None:
    """`NodeRoutes` looks nodes up this way, and relies on the error where the map has a gap."""
    client: Any = redis.asyncio.RedisCluster("127.0.0.1", 1)
    with pytest.raises(SlotNotCoveredError):
        client.get_node_from_key(b"key")
    node = node_of()
    client.nodes_manager.slots_cache[client.keyslot(b"key")] = [node]
    assert client.get_node_from_key(b"key") is node
    assert node.name == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (redis.asyncio.ConnectionPool.make_connection, ["self"]),
        (redis.asyncio.Connection.connect, ["self"]),
        (redis.asyncio.Connection._close, ["self"]),
        (BaseParser.parse_error, ["response"]),
        (redis.asyncio.RedisCluster.initialize, ["self"]),
        (redis.asyncio.RedisCluster.aclose, ["self"]),
        (redis.asyncio.RedisCluster.get_node_from_key, ["self", "key", "replica"]),
        (redis.asyncio.cluster.ClusterPipeline.execute, ["self", "raise_on_error", "allow_redirections"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_what_is_called_takes_the_same_parameters(function: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters
