"""What Driftline uses of redis-py beyond its documented interface, and nothing else.

`services.runtime.redis_pipeline` lets redis-py open a connection (address, TLS, password, database), then
takes the connection's bytes over. redis-py offers no interface for that, so a release may change it without
notice. Therefore pyproject.toml pins one release of redis-py, and
tests/contract/test_redis_internals.py checks each of these functions against a real server.
"""

import asyncio
from typing import Any, cast

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def is_cluster(client: Any) -> bool:
    """Tell whether a client is a `RedisCluster`, without the import of redis-py's cluster clients."""
    return hasattr(client, "nodes_manager")


def new_connection(client: Any, node: Any = None) -> Any:
    """Make an unconnected connection for an asyncio client; for a cluster's client, to one of its nodes.

    The pool of the client does not count it as in use. One to a node does not retry: the node may have failed
    over to a replica, and only a new map of the slots names that one.
    """
    if node is None:
        return client.connection_pool.make_connection()
    return node.connection_class(**node.connection_kwargs | {"retry": Retry(NoBackoff(), 0)})


def transport_of(connection: Any) -> asyncio.Transport:
    """Return the transport of a connection that is connected; its protocol may be replaced."""
    return cast("asyncio.Transport", connection._writer.transport)


def mark_closed(connection: Any) -> None:
    """Tell redis-py that the transport is closed, so that it releases the connection's streams."""
    connection._close()


def new_reply_reader() -> hiredis.Reader:
    """Make a parser of replies that returns errors of the server as redis-py's exceptions."""
    return hiredis.Reader(replyError=BaseParser.parse_error)
