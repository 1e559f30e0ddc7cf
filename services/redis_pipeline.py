"""Many commands and their replies in one round trip, without redis-py's cost for each.

redis-py opens the connection (address, TLS, password, database) and remains in charge of it; only the
bytes pass it by: commands come encoded, and hiredis reads the replies. Both pipelines are for reads
alone: where a connection turns out to be dead, the commands are sent once more over a new one.

On a Redis Cluster redis-py's own pipeline does the work, because it knows which node has which slot.
"""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services import redis_clients

if TYPE_CHECKING:
    from services.settings import Settings

REPLY_SECONDS_MAX = 5.0
"""Ten thousand rows take a tenth of a second; a store that is silent for longer is not there."""
_BUFFER_BYTES = 1 << 17


class AsyncPipeline:
    """One connection for any number of tasks: their commands follow each other, nobody waits for a turn."""

    def __init__(self, client: Any) -> None:
        """Connect as this `redis.asyncio.Redis` or `RedisCluster`, made with ``protocol=2``, does."""
        self.client = client
        self._is_cluster = not hasattr(client, "connection_pool")
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()

    @classmethod
    def connect(cls, settings: "Settings") -> Self:
        """Make a pipeline to the online store; the first exchange connects."""
        return cls(redis_clients.connect(settings))

    async def close(self) -> None:
        """Close the connection and those of the client."""
        if self._link is not None:
            self._link.abort()
            await asyncio.sleep(0)  # in which the transport closes
        await self.client.aclose()

    async def exchange(self, *batches: Sequence[bytes]) -> list[Any]:
        """Return the replies to encoded commands, in order; a batch is executed after the one before.

        Raises `redis.RedisError`: the store cannot be reached, is silent, or answers one with an error.
        """
        if self._is_cluster:
            return [reply for batch in batches for reply in await self._through_cluster(batch)]
        commands = list(itertools.chain.from_iterable(batches))
        if not commands:
            return []
        try:
            received = await self._send(await self._connected(), commands)
        except RedisConnectionError:
            received = await self._send(await self._connected(), commands)
        return _checked(received)

    async def _through_cluster(self, commands: Sequence[bytes]) -> list[Any]:
        async with self.client.pipeline() as pipe:
            for arguments in _decoded(commands):
                pipe.execute_command(*arguments)
            return [_flat(reply) for reply in await pipe.execute()]

    async def _connected(self) -> "_Link":
        if self._link is None or self._link.is_lost:
            async with self._connecting:
                if self._link is None or self._link.is_lost:
                    self._link = await _Link.open(self.client)
        return self._link

    async def _send(self, link: "_Link", commands: Sequence[bytes]) -> list[Any]:
        try:
            async with asyncio.timeout(REPLY_SECONDS_MAX):
                return await link.exchange(commands)
        except TimeoutError as error:
            link.abort()
            raise RedisTimeoutError(f"no reply within {REPLY_SECONDS_MAX:g} s") from error


class _Link(asyncio.Protocol):
    """Takes the place of redis-py's own protocol on a connection."""

    def __init__(self, connection: Any) -> None:
        self.is_lost = False
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", connection._writer.transport)  # noqa: SLF001  # see the module
        self._reader = hiredis.Reader(replyError=ResponseError)
        self._waiting: deque[tuple[int, list[Any], asyncio.Future[list[Any]]]] = deque()

    @classmethod
    async def open(cls, client: Any) -> "_Link":
        connection = client.connection_pool.make_connection()  # not counted by the pool as in use
        await connection.connect()
        link = cls(connection)
        link._transport.set_protocol(link)
        return link

    def exchange(self, commands: Sequence[bytes]) -> "asyncio.Future[list[Any]]":
        future = self._loop.create_future()
        if self.is_lost:
            future.set_exception(RedisConnectionError("the connection is closed"))
        else:
            self._waiting.append((len(commands), [], future))
            self._transport.write(b"".join(commands))
        return future

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        next_reply = self._reader.gets
        while self._waiting:
            expected, received, future = self._waiting[0]
            while len(received) < expected:
                reply = next_reply()
                if reply is False:
                    return
                received.append(reply)
            self._waiting.popleft()
            if not future.done():  # its task may have been cancelled; the replies had to be read all the same
                future.set_result(received)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        error = RedisConnectionError(f"the connection was lost: {exc or 'closed by the store'}")
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()
        self._connection._close()  # noqa: SLF001  # redis-py's own end of the connection


class BlockingPipeline:
    """One connection; threads take turns."""

    def __init__(self, client: Any) -> None:
        """Connect as this `redis.Redis` or `RedisCluster`, made with ``protocol=2``, does."""
        self.client = client
        self._is_cluster = not hasattr(client, "connection_pool")
        self._connection: Any = None
        self._reader = hiredis.Reader(replyError=ResponseError)
        self._buffer = bytearray(_BUFFER_BYTES)
        self._turn = threading.Lock()

    @classmethod
    def connect(cls, settings: "Settings") -> Self:
        """Make a pipeline to the online store; the first exchange connects."""
        return cls(redis_clients.connect_blocking(settings, protocol=2))

    def close(self) -> None:
        """Close the connection and those of the client."""
        with self._turn:
            self._drop()
        self.client.close()

    def exchange(self, *batches: Sequence[bytes]) -> list[Any]:
        """Return the replies to encoded commands, in order; a batch is executed after the one before.

        Raises `redis.RedisError`: the store cannot be reached, is silent, or answers one with an error.
        """
        if self._is_cluster:
            return [reply for batch in batches for reply in self._through_cluster(batch)]
        commands = list(itertools.chain.from_iterable(batches))
        if not commands:
            return []
        with self._turn:
            try:
                received = self._send(commands)
            except RedisConnectionError:
                received = self._send(commands)
        return _checked(received)

    def _through_cluster(self, commands: Sequence[bytes]) -> list[Any]:
        with self._turn, self.client.pipeline() as pipe:
            for arguments in _decoded(commands):
                pipe.execute_command(*arguments)
            return [_flat(reply) for reply in pipe.execute()]

    def _send(self, commands: Sequence[bytes]) -> list[Any]:
        if self._connection is None:
            self._connect()
        socket = self._connection._sock  # noqa: SLF001  # see the module
        received: list[Any] = []
        try:
            socket.sendall(b"".join(commands))
            while len(received) < len(commands):
                size_bytes = socket.recv_into(self._buffer)
                if not size_bytes:
                    raise ConnectionResetError("closed by the store")
                self._reader.feed(self._buffer, 0, size_bytes)  # type: ignore[arg-type]  # takes any buffer
                while (reply := self._reader.gets()) is not False:
                    received.append(reply)
        except TimeoutError as error:
            self._drop()
            raise RedisTimeoutError(f"no reply within {REPLY_SECONDS_MAX:g} s") from error
        except OSError as error:
            self._drop()
            raise RedisConnectionError(f"the connection was lost: {error}") from error
        except BaseException:
            self._drop()  # replies that are still to come must not meet the next reader
            raise
        return received

    def _connect(self) -> None:
        self._connection = self.client.connection_pool.get_connection()
        self._connection._sock.settimeout(REPLY_SECONDS_MAX)  # noqa: SLF001
        self._reader = hiredis.Reader(replyError=ResponseError)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self.client.connection_pool.release(self._connection)
            self._connection = None


def _decoded(commands: Sequence[bytes]) -> Iterator[tuple[str | bytes, ...]]:
    """Yield name and arguments of encoded commands, which have the form of replies."""
    reader = hiredis.Reader()
    for command in commands:
        reader.feed(command)
        name, *arguments = cast("list[bytes]", reader.gets())
        yield (name.decode(), *arguments)


def _flat(reply: Any) -> Any:
    """Undo what redis-py makes of a reply to HGETALL."""
    return list(itertools.chain.from_iterable(reply.items())) if isinstance(reply, dict) else reply


def _checked(replies: list[Any]) -> list[Any]:
    if ResponseError in map(type, replies):
        raise next(reply for reply in replies if type(reply) is ResponseError)
    return replies
