"""Send many commands and read their replies in one round trip, without redis-py's cost per command.

redis-py opens the connections (address, TLS, password, database) and remains in charge of them. Only the
bytes bypass it: commands are encoded once, before they get here, and hiredis parses the replies. `exchange`
repeats its commands if the connection turns out to be dead, so use it for reads and for what may be executed
twice. `exchange_once` never repeats, because some of its commands may have been executed.

On a Redis Cluster each node has its own connection, and all nodes work at the same time. Commands that a node
redirects (their slot has moved or is moving) go through redis-py's own pipeline, which follows the
redirection and corrects the slot map. `exchange` sends the commands of a lost node that way, too.
"""

import asyncio
import contextlib
import itertools
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.runtime import redis_clients, redis_internals
from services.runtime.redis_cluster_routing import NodeRoutes

if TYPE_CHECKING:
    from services.runtime.settings import Settings

_SINGLE_SERVER = "single server"
"""The name of the only connection where the online store is no cluster."""


class AsyncPipeline:
    """One connection to each node, shared by any number of tasks: their commands queue on it."""

    def __init__(self, client: Any) -> None:
        """Connect in the way of this `redis.asyncio.Redis` or `RedisCluster`, made with ``protocol=2``."""
        self.client = client
        self._is_cluster = redis_internals.is_cluster(client)
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
        await asyncio.sleep(0)  # lets the event loop close the transports
        await self.client.aclose()

    async def exchange(self, *batches: Sequence[bytes]) -> list[Any]:
        """Return the replies to encoded commands, in order; each batch is executed after the one before it.

        Raises `redis.RedisError` if the store cannot be reached, does not reply, or replies with an error.
        """
        if self._is_cluster:
            routed = [await self._exchange_by_node(batch, repeatable=True) for batch in batches]
            return _without_errors(list(itertools.chain.from_iterable(routed)))
        commands = list(itertools.chain.from_iterable(batches))
        try:
            replies = await self._exchange_with(_SINGLE_SERVER, commands)
        except RedisConnectionError:
            replies = await self._exchange_with(_SINGLE_SERVER, commands)
        return _without_errors(replies)

    async def exchange_once(self, commands: Sequence[bytes]) -> list[Any]:
        """Return the replies to encoded commands, in order; errors of the store are among the replies.

        A cluster keeps the order only within each node.

        Raises `redis.RedisError` if the store cannot be reached or does not reply; any of the commands may
        have been executed then.
        """
        if self._is_cluster:
            return await self._exchange_by_node(commands, repeatable=False)
        return await self._exchange_with(_SINGLE_SERVER, commands)

    async def _exchange_by_node(self, commands: Sequence[bytes], *, repeatable: bool) -> list[Any]:
        with _as_connection_error():
            await self.client.initialize()  # reads the slot map if it is unknown
            routes = NodeRoutes(self.client, commands)
            parts = [
                self._exchange_with(name, routes.commands(name), node) for name, node in routes.nodes.items()
            ]
            received = await asyncio.gather(*parts, return_exceptions=True)
            for name, replies in zip(routes.nodes, received, strict=True):
                if not isinstance(replies, BaseException):
                    routes.add_replies(name, replies)
                elif repeatable and isinstance(replies, RedisConnectionError):
                    routes.give_up(name)
                else:
                    with contextlib.suppress(RedisError, OSError):
                        await self.client.aclose()  # the next exchange reads the slot map again
                    raise replies
            if routes.misrouted:
                async with self.client.pipeline() as pipe:
                    for arguments in routes.misrouted_arguments():
                        pipe.execute_command(*arguments)
                    routes.add_misrouted_replies(await pipe.execute(raise_on_error=False))
            return routes.replies

    async def _exchange_with(self, name: str, commands: Sequence[bytes], node: Any = None) -> list[Any]:
        if not commands:
            return []
        link = self._links.get(name)
        if link is None or link.is_lost:
            async with self._connecting[name]:
                link = self._links.get(name)
                if link is None or link.is_lost:
                    connection = redis_internals.new_connection(self.client, node)
                    link = self._links[name] = await _Link.open(connection)
        return await link.exchange(commands)


class _Link(asyncio.Protocol):
    """Replaces redis-py's own protocol on a connection."""

    def __init__(self, connection: Any) -> None:
        self.is_lost = False
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._transport = redis_internals.transport_of(connection)
        self._parser = redis_internals.new_reply_reader()
        self._pending: deque[tuple[int, list[Any], asyncio.Future[list[Any]]]] = deque()
        """Exchanges without all their replies: the number of replies, those received, the caller's future."""
        self._last_received_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, connection: Any) -> "_Link":
        await connection.connect()
        link = cls(connection)
        link._transport.set_protocol(link)
        return link

    def exchange(self, commands: Sequence[bytes]) -> "asyncio.Future[list[Any]]":
        future = self._loop.create_future()
        if self.is_lost:
            future.set_exception(RedisConnectionError("the connection to the online store is closed"))
            return future
        if not self._pending:
            self._last_received_seconds = self._loop.time()
            self._timer = self._timer or self._loop.call_later(
                redis_clients.REPLY_SECONDS_MAX, self._check_timeout
            )
        self._pending.append((len(commands), [], future))
        self._transport.write(b"".join(commands))
        return future

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._last_received_seconds = self._loop.time()
        self._parser.feed(data)
        next_reply = self._parser.gets
        while self._pending:
            expected, received, future = self._pending[0]
            while len(received) < expected:
                reply = next_reply()
                if reply is False:
                    return
                received.append(reply)
            self._pending.popleft()
            if not future.done():  # a cancelled task's replies have to be read as well
                future.set_result(received)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        cause = exc or "the server closed it"
        self._fail(RedisConnectionError(f"the connection to the online store was lost: {cause}"))
        redis_internals.mark_closed(self._connection)

    def _check_timeout(self) -> None:
        """Abort if the server does not reply. One timer for all exchanges costs less than one for each."""
        self._timer = None
        if not self._pending:
            return
        timeout_at_seconds = self._last_received_seconds + redis_clients.REPLY_SECONDS_MAX
        left_seconds = timeout_at_seconds - self._loop.time()
        if left_seconds > 0:
            self._timer = self._loop.call_later(left_seconds, self._check_timeout)
            return
        self._fail(
            RedisTimeoutError(f"the online store sent no reply within {redis_clients.REPLY_SECONDS_MAX:g} s")
        )
        self.abort()

    def _fail(self, error: RedisError) -> None:
        self.is_lost = True
        for _, _, future in self._pending:
            if not future.done():
                future.set_exception(error)
        self._pending.clear()


@contextlib.contextmanager
def _as_connection_error() -> Iterator[None]:
    """Convert redis-py's error for a cluster as a whole, which is no `RedisError`."""
    try:
        yield
    except RedisClusterException as error:
        raise RedisConnectionError(str(error)) from error


def _without_errors(replies: list[Any]) -> list[Any]:
    """Return the replies; raise the first error among them."""
    for kind in {*map(type, replies)}:
        if issubclass(kind, Exception):
            raise next(reply for reply in replies if type(reply) is kind)
    return replies
