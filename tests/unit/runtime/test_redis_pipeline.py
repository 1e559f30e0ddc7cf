"""The pipeline on a connection in memory: what is written, and which reply goes to whom."""

import asyncio
import types
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.runtime import redis_clients
from services.runtime.redis_pipeline import AsyncPipeline


class MemoryTransport:
    """Keeps what is written, and has the protocol that the pipeline sets."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.written: list[bytes] = []
        self.is_aborted = False

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.is_aborted = True


class MemoryClient:
    """A client of one server, whose connections are in memory."""

    def __init__(self) -> None:
        self.transports: list[MemoryTransport] = []
        self.connection_pool = types.SimpleNamespace(make_connection=self.make_connection)
        self.is_closed = False

    def make_connection(self) -> Any:
        self.transports.append(MemoryTransport())
        return types.SimpleNamespace(
            connect=lambda: asyncio.sleep(0),
            _writer=types.SimpleNamespace(transport=self.transports[-1]),
            _close=lambda: None,
        )

    async def aclose(self) -> None:
        self.is_closed = True


def run(use: Callable[[AsyncPipeline, MemoryClient], Awaitable[Any]]) -> Any:
    async def body() -> Any:
        client = MemoryClient()
        return await use(AsyncPipeline(client), client)

    return asyncio.run(body())


async def written(client: MemoryClient, count: int, connections: int = 1) -> MemoryTransport:
    """Wait until ``count`` exchanges were written to the last connection."""

    def is_written() -> bool:
        made = client.transports
        return len(made) == connections and len(made[-1].written) >= count

    while not is_written():  # noqa: ASYNC110  # a few turns of the loop
        await asyncio.sleep(0)
    return client.transports[-1]


def test_commands_are_written_at_once_and_replies_return_in_order() -> None:
    async def use(pipeline: AsyncPipeline, client: MemoryClient) -> list[Any]:
        exchange = asyncio.create_task(pipeline.exchange([b"A", b"B"], [b"C"]))
        transport = await written(client, 1)
        assert transport.written == [b"ABC"]
        transport.protocol.data_received(b"+one\r\n:2\r")
        transport.protocol.data_received(b"\n$-1\r\n")
        return await exchange

    assert run(use) == [b"one", 2, None]


def test_tasks_share_a_connection_and_each_gets_its_own_replies() -> None:
    async def use(pipeline: AsyncPipeline, client: MemoryClient) -> list[Any]:
        first = asyncio.create_task(pipeline.exchange([b"A"]))
        second = asyncio.create_task(pipeline.exchange([b"B", b"C"]))
        transport = await written(client, 2)
        transport.protocol.data_received(b":1\r\n:2\r\n:3\r\n")
        assert len(client.transports) == 1
        return [await first, await second]

    assert run(use) == [[1], [2, 3]]


def test_replies_of_a_cancelled_task_go_to_nobody_else() -> None:
    async def use(pipeline: AsyncPipeline, client: MemoryClient) -> Any:
        first = asyncio.create_task(pipeline.exchange([b"A"]))
        second = asyncio.create_task(pipeline.exchange([b"B"]))
        transport = await written(client, 2)
        first.cancel()
        await asyncio.sleep(0)
        transport.protocol.data_received(b":1\r\n:2\r\n")
        return await second

    assert run(use) == [2]


def test_an_error_of_the_server_is_raised_or_stays_among_the_replies() -> None:
    async def raised(pipeline: AsyncPipeline, client: MemoryClient) -> Any:
        exchange = asyncio.create_task(pipeline.exchange([b"A", b"B"]))
        (await written(client, 1)).protocol.data_received(b":1\r\n-ERR no\r\n")
        return await exchange

    async def returned(pipeline: AsyncPipeline, client: MemoryClient) -> Any:
        exchange = asyncio.create_task(pipeline.exchange_once([b"A", b"B"]))
        (await written(client, 1)).protocol.data_received(b":1\r\n-ERR no\r\n")
        return await exchange

    with pytest.raises(ResponseError, match="no"):
        run(raised)
    reply, error = run(returned)
    assert reply == 1
    assert isinstance(error, ResponseError)


def test_commands_on_a_lost_connection_are_repeated_on_a_new_one() -> None:
    async def use(pipeline: AsyncPipeline, client: MemoryClient) -> Any:
        exchange = asyncio.create_task(pipeline.exchange([b"A"]))
        (await written(client, 1)).protocol.connection_lost(None)
        (await written(client, 1, connections=2)).protocol.data_received(b":7\r\n")
        return await exchange

    assert run(use) == [7]


def test_commands_that_may_have_been_executed_are_not_repeated() -> None:
    async def use(pipeline: AsyncPipeline, client: MemoryClient) -> Any:
        exchange = asyncio.create_task(pipeline.exchange_once([b"A"]))
        (await written(client, 1)).protocol.connection_lost(OSError("reset"))
        with pytest.raises(RedisConnectionError, match="was lost: reset"):
            await exchange
        return len(client.transports)

    assert run(use) == 1


def test_a_server_that_sends_nothing_is_a_timeout_and_its_connection_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_clients, "REPLY_SECONDS_MAX", 0.01)

    async def use(pipeline: AsyncPipeline, client: MemoryClient) -> Any:
        with pytest.raises(RedisTimeoutError, match="no reply within"):
            await pipeline.exchange_once([b"A"])
        return client.transports[0].is_aborted

    assert run(use) is True


def test_without_commands_nothing_connects() -> None:
    async def use(pipeline: AsyncPipeline, client: MemoryClient) -> Any:
        assert await pipeline.exchange([]) == []
        return client.transports

    assert run(use) == []


def test_closing_ends_the_connections_and_those_of_the_client() -> None:
    async def use(pipeline: AsyncPipeline, client: MemoryClient) -> Any:
        exchange = asyncio.create_task(pipeline.exchange([b"A"]))
        transport = await written(client, 1)
        transport.protocol.data_received(b":1\r\n")
        await exchange
        await pipeline.close()
        return transport.is_aborted, client.is_closed

    assert run(use) == (True, True)
