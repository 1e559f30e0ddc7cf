"""Many commands and their replies in one round trip, without redis-py's cost for each.

redis-py opens the connections (address, TLS, password, database) and remains in charge of them; only the
bytes pass it by: commands come encoded, once, and hiredis reads the replies. `exchange` sends them again
where a connection turns out to be dead, so it is for reads, and for what may be done twice; `exchange_once`
never does, because part of them may be done.

On a Redis Cluster each node has a connection of its own, and all nodes work at once. What a node hands
on to another (a slot has moved, or is moving) goes through redis-py's own pipeline, which follows it and
corrects the map of the slots; so does what a node that is gone was to answer, unless it is sent once only.
"""

import asyncio
import contextlib
import itertools
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.runtime import redis_clients
from services.runtime.redis_cluster_routing import Routes

if TYPE_CHECKING:
    from services.runtime.settings import Settings

_BUFFER_BYTES = 1 << 17
_ONLY = "the only server"

encode: Callable[[tuple[str | bytes | float, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub means tuples of one
"""Encodes a tuple: name and arguments of a command, whose key is the first one, or the third of EVALSHA."""


class Template:
    """Encodes a command of which only some arguments change, several times as fast as `encode`."""

    def __init__(self, *arguments: str | bytes | int | None) -> None:
        """Take name and arguments; None stands for what changes."""
        texts = [encode((argument,)).split(b"\r\n", 1)[1] for argument in arguments if argument is not None]
        given = iter(texts)
        pieces = [b"*%d\r\n" % len(arguments)]
        for argument in arguments:
            if argument is None:
                pieces += [b"", b"", b"\r\n"]
            else:
                pieces[-1] += next(given)
        self._pieces = pieces

    def encode(self, *values: bytes) -> bytes:
        """Return the command with these values, in order."""
        pieces = self._pieces.copy()
        pieces[1::3] = map(_HEAD_OF, map(len, values))
        pieces[2::3] = values
        return b"".join(pieces)


class _Heads(dict[int, bytes]):
    """What stands before an argument, by its length; of the short ones it is remembered."""

    def __missing__(self, size_bytes: int) -> bytes:
        head = b"$%d\r\n" % size_bytes
        if size_bytes < _HEADS_MAX:
            self[size_bytes] = head
        return head


_HEADS_MAX = 1 << 14
_HEAD_OF = _Heads().__getitem__


class AsyncPipeline:
    """One connection to each node for any number of tasks: their commands follow each other."""

    def __init__(self, client: Any) -> None:
        """Connect as this `redis.asyncio.Redis` or `RedisCluster`, made with ``protocol=2``, does."""
        self.client = client
        self._is_cluster = hasattr(client, "nodes_manager")
        self._links: dict[str, _Link] = {}
        self._connecting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    def connect(cls, settings: "Settings") -> Self:
        """Make a pipeline to the online store; the first exchange connects."""
        return cls(redis_clients.connect(settings))

    async def close(self) -> None:
        """Close the connections and those of the client."""
        for link in self._links.values():
            link.abort()
        await asyncio.sleep(0)  # in which the transports close
        await self.client.aclose()

    async def exchange(self, *batches: Sequence[bytes]) -> list[Any]:
        """Return the replies to encoded commands, in order; a batch is executed after the one before.

        Raises `redis.RedisError`: the store cannot be reached, is silent, or answers one with an error.
        """
        if self._is_cluster:
            routed = [await self._through_nodes(batch, again=True) for batch in batches]
            return _without_errors(list(itertools.chain.from_iterable(routed)))
        commands = list(itertools.chain.from_iterable(batches))
        try:
            replies = await self._sent(_ONLY, commands)
        except RedisConnectionError:
            replies = await self._sent(_ONLY, commands)
        return _without_errors(replies)

    async def exchange_once(self, commands: Sequence[bytes]) -> list[Any]:
        """Return the replies to encoded commands, in order, errors of the store among them.

        On a cluster each node executes its own in order.

        Raises `redis.RedisError`: the store cannot be reached or is silent; any part may have been done.
        """
        if self._is_cluster:
            return await self._through_nodes(commands, again=False)
        return await self._sent(_ONLY, commands)

    async def _through_nodes(self, commands: Sequence[bytes], *, again: bool) -> list[Any]:
        with _as_connection_error():
            await self.client.initialize()  # asks for the map of the slots where it is not known
            routes = Routes(self.client, commands)
            parts = [self._sent(name, routes.commands(name), node) for name, node in routes.nodes.items()]
            received = await asyncio.gather(*parts, return_exceptions=True)
            for name, replies in zip(routes.nodes, received, strict=True):
                if not isinstance(replies, BaseException):
                    routes.take(name, replies)
                elif again and isinstance(replies, RedisConnectionError):
                    routes.lose(name)
                else:
                    with contextlib.suppress(RedisError, OSError):
                        await self.client.aclose()  # the next exchange asks for the map anew
                    raise replies
            if routes.astray:
                async with self.client.pipeline() as pipe:
                    for arguments in routes.astray_arguments():
                        pipe.execute_command(*arguments)
                    routes.take_astray(await pipe.execute(raise_on_error=False))
            return routes.replies

    async def _sent(self, name: str, commands: Sequence[bytes], node: Any = None) -> list[Any]:
        if not commands:
            return []
        link = self._links.get(name)
        if link is None or link.is_lost:
            async with self._connecting[name]:
                link = self._links.get(name)
                if link is None or link.is_lost:
                    link = self._links[name] = await _Link.open(self._connection(node))
        return await link.exchange(commands)

    def _connection(self, node: Any) -> Any:
        if node is None:
            return self.client.connection_pool.make_connection()  # not counted by the pool as in use
        once = Retry(NoBackoff(), 0)  # a node that is gone may have a successor
        return node.connection_class(**node.connection_kwargs | {"retry": once})


class _Link(asyncio.Protocol):
    """Takes the place of redis-py's own protocol on a connection."""

    def __init__(self, connection: Any) -> None:
        self.is_lost = False
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", connection._writer.transport)  # noqa: SLF001  # see the module
        self._reader = _new_reader()
        self._waiting: deque[tuple[int, list[Any], asyncio.Future[list[Any]]]] = deque()
        self._heard_at_seconds = 0.0
        self._watch: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, connection: Any) -> "_Link":
        await connection.connect()
        link = cls(connection)
        link._transport.set_protocol(link)
        return link

    def exchange(self, commands: Sequence[bytes]) -> "asyncio.Future[list[Any]]":
        future = self._loop.create_future()
        if self.is_lost:
            future.set_exception(RedisConnectionError("the connection is closed"))
            return future
        if not self._waiting:
            self._heard_at_seconds = self._loop.time()
            self._watch = self._watch or self._loop.call_later(redis_clients.REPLY_SECONDS_MAX, self._look)
        self._waiting.append((len(commands), [], future))
        self._transport.write(b"".join(commands))
        return future

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._heard_at_seconds = self._loop.time()
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
        if self._watch is not None:
            self._watch.cancel()
        self._fail(RedisConnectionError(f"the connection was lost: {exc or 'closed by the store'}"))
        self._connection._close()  # noqa: SLF001  # redis-py's own end of the connection

    def _look(self) -> None:
        """Give a silent store up. A timer for all exchanges is cheaper than a timeout of each."""
        self._watch = None
        if not self._waiting:
            return
        left_seconds = self._heard_at_seconds + redis_clients.REPLY_SECONDS_MAX - self._loop.time()
        if left_seconds > 0:
            self._watch = self._loop.call_later(left_seconds, self._look)
            return
        self._fail(_silent())
        self.abort()

    def _fail(self, error: RedisError) -> None:
        self.is_lost = True
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()


class BlockingPipeline:
    """One connection to each node; threads take turns."""

    def __init__(self, client: Any) -> None:
        """Connect as this `redis.Redis` or `RedisCluster`, made with ``protocol=2``, does."""
        self.client = client
        self._is_cluster = hasattr(client, "nodes_manager")
        self._links: dict[str, _BlockingLink] = {}
        self._turn = threading.Lock()

    @classmethod
    def connect(cls, settings: "Settings") -> Self:
        """Make a pipeline to the online store; the first exchange connects."""
        return cls(redis_clients.connect_blocking(settings, protocol=2))

    def close(self) -> None:
        """Close the connections and those of the client."""
        with self._turn:
            for link in self._links.values():
                link.close()
            self._links.clear()
        self.client.close()

    def exchange(self, *batches: Sequence[bytes]) -> list[Any]:
        """Return the replies to encoded commands, in order; a batch is executed after the one before.

        Raises `redis.RedisError`: the store cannot be reached, is silent, or answers one with an error.
        """
        with self._turn:
            if self._is_cluster:
                replies = [reply for batch in batches for reply in self._through_nodes(batch)]
            else:
                commands = list(itertools.chain.from_iterable(batches))
                try:
                    replies = self._sent(commands)
                except RedisConnectionError:
                    replies = self._sent(commands)
        return _without_errors(replies)

    def _sent(self, commands: Sequence[bytes]) -> list[Any]:
        if not commands:
            return []
        link = self._link(_ONLY, self.client)
        link.send(commands)
        return link.receive(len(commands))

    def _through_nodes(self, commands: Sequence[bytes]) -> list[Any]:
        with _as_connection_error():
            routes = Routes(self.client, commands)
            try:
                self._ask(routes)
            except RedisTimeoutError:
                self.client.nodes_manager.initialize()  # a node that is silent may have a successor
                raise
            if routes.astray:
                with self.client.pipeline() as pipe:
                    for arguments in routes.astray_arguments():
                        pipe.execute_command(*arguments)
                    routes.take_astray(pipe.execute(raise_on_error=False))
            return routes.replies

    def _ask(self, routes: Routes) -> None:
        """Send to all nodes, then receive from all: they work at once."""
        asked: dict[str, tuple[_BlockingLink, int]] = {}
        for name, node in routes.nodes.items():
            commands = routes.commands(name)
            try:
                link = self._link(name, self.client.get_redis_connection(node))
                link.send(commands)
                asked[name] = link, len(commands)
            except RedisConnectionError:
                routes.lose(name)
        for name, (link, count) in asked.items():
            try:
                routes.take(name, link.receive(count))
            except RedisConnectionError:
                routes.lose(name)

    def _link(self, name: str, client: Any) -> "_BlockingLink":
        link = self._links.get(name)
        if link is None or not link.is_ready:
            if link is not None:
                self._links.pop(name).close()
            link = self._links[name] = _BlockingLink(client.connection_pool)
        return link


class _BlockingLink:
    """A connection of redis-py, lent by its pool."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._connection = pool.get_connection()
        self._socket = self._connection._sock  # noqa: SLF001  # see the module
        self._socket.settimeout(redis_clients.REPLY_SECONDS_MAX)
        self._reader = _new_reader()
        self._buffer = bytearray(_BUFFER_BYTES)
        self.is_ready = True
        """Whether no replies are to come: they must not meet the next reader."""

    def close(self) -> None:
        self._connection.disconnect()
        self._pool.release(self._connection)

    def send(self, commands: Sequence[bytes]) -> None:
        self.is_ready = False
        try:
            self._socket.sendall(b"".join(commands))
        except OSError as error:
            raise _as_redis_error(error) from error

    def receive(self, count: int) -> list[Any]:
        received: list[Any] = []
        try:
            while len(received) < count:
                size_bytes = self._socket.recv_into(self._buffer)
                if not size_bytes:
                    raise ConnectionResetError("closed by the store")
                self._reader.feed(self._buffer, 0, size_bytes)  # type: ignore[arg-type]  # takes any buffer
                while (reply := self._reader.gets()) is not False:
                    received.append(reply)
        except OSError as error:
            raise _as_redis_error(error) from error
        self.is_ready = True
        return received


def _new_reader() -> hiredis.Reader:
    return hiredis.Reader(replyError=BaseParser.parse_error)


def _silent() -> RedisTimeoutError:
    return RedisTimeoutError(f"no reply within {redis_clients.REPLY_SECONDS_MAX:g} s")


def _as_redis_error(error: OSError) -> RedisError:
    if isinstance(error, TimeoutError):
        return _silent()
    return RedisConnectionError(f"the connection was lost: {error}")


@contextlib.contextmanager
def _as_connection_error() -> Iterator[None]:
    """What redis-py says of a cluster as a whole is none of its errors."""
    try:
        yield
    except RedisClusterException as error:
        raise RedisConnectionError(str(error)) from error


def _without_errors(replies: list[Any]) -> list[Any]:
    for kind in {*map(type, replies)}:
        if issubclass(kind, Exception):
            raise next(reply for reply in replies if type(reply) is kind)
    return replies
