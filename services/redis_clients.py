"""The one place that makes Redis clients: a single server or a cluster, plain or TLS.

Every key is used alone or with others of its own slot, so that all of Driftline runs on a Redis Cluster too.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hiredis
from redis._parsers.hiredis import NOT_ENOUGH_DATA  # a sentinel that is nowhere else

if TYPE_CHECKING:
    from services.settings import Settings

CONNECT_SECONDS_MAX = 5.0

Command = tuple[Any, ...]
"""Name and arguments; the key is the first argument, or the third one of EVALSHA."""


def connect(settings: "Settings", **options: Any) -> Any:
    """Make a `redis.asyncio` client; the first command connects."""
    import redis.asyncio

    kind = redis.asyncio.RedisCluster if settings.redis_cluster else redis.asyncio.Redis
    return kind.from_url(settings.redis_url, **_common(settings) | {"protocol": 2} | options)


def connect_blocking(settings: "Settings", **options: Any) -> Any:
    """Make a `redis` client. That of a cluster connects at once."""
    import redis

    kind = redis.RedisCluster if settings.redis_cluster else redis.Redis
    return kind.from_url(settings.redis_url, **_common(settings) | options)


def _common(settings: "Settings") -> dict[str, Any]:
    limit: dict[str, Any] = {"socket_connect_timeout": CONNECT_SECONDS_MAX}
    if not settings.redis_url.startswith("rediss://"):
        return limit
    files = {
        "ssl_ca_certs": settings.redis_cafile,
        "ssl_certfile": settings.redis_certfile,
        "ssl_keyfile": settings.redis_keyfile,
    }
    return limit | {name: str(path) for name, path in files.items() if path is not None}


async def exchange(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands in one round trip (to each node of a cluster); return replies, errors among them.

    On a single server they go packed over one connection: a fifth of what redis-py's own pipeline costs.

    Raises:
        RedisError, OSError: The server cannot be reached. Any part of the commands may have been done.
    """
    if not commands:
        return []
    if not hasattr(client, "connection_pool"):
        return await _through_pipeline(client, commands)
    connection = await client.connection_pool.get_connection()
    try:
        await connection.send_packed_command(
            b"".join([hiredis.pack_command(command) for command in commands])
        )
        return await _replies(connection, len(commands))
    except BaseException:
        # Replies that are still to come must not meet the next user of the connection.
        await connection.disconnect(nowait=True)
        raise
    finally:
        await client.connection_pool.release(connection)


async def _replies(connection: Any, count: int) -> list[Any]:
    """Read replies; behind the first of each packet without redis-py's cost for one, 4 us."""
    from redis.exceptions import ResponseError

    replies: list[Any] = []
    while len(replies) < count:
        try:
            replies.append(await connection.read_response(disable_decoding=True))
        except ResponseError as error:
            replies.append(error)
        parser = connection._parser  # noqa: SLF001  # redis-py has no public way to what has come already
        reader = parser._reader  # noqa: SLF001
        while len(replies) < count and (reply := reader.gets(False)) is not NOT_ENOUGH_DATA:
            replies.append(reply)
    return replies


async def _through_pipeline(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Let redis-py find the nodes, and follow slots that have moved."""
    async with client.pipeline() as pipe:
        for command in commands:
            pipe.execute_command(*command)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
    return replies
