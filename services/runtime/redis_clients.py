"""Make Redis clients, for a single server or a cluster, with or without TLS. No other module makes any.

Every command uses one key, or several of the same slot, so all of Driftline also runs on a Redis Cluster.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.runtime.settings import Settings

CONNECT_SECONDS_MAX = 5.0
REPLY_SECONDS_MAX = 5.0
"""Maximum time without a reply.

Ten thousand rows take 0.1 s, so a store that is silent for longer is down.
"""


def connect(settings: "Settings", **options: Any) -> Any:
    """Make a `redis.asyncio` client; the first command connects."""
    import redis.asyncio

    kind = redis.asyncio.RedisCluster if settings.redis_cluster else redis.asyncio.Redis
    return kind.from_url(settings.redis_url, **_common(settings) | {"protocol": 2} | options)


def connect_blocking(settings: "Settings", **options: Any) -> Any:
    """Make a `redis` client. The client of a cluster connects at once."""
    import redis

    kind = redis.RedisCluster if settings.redis_cluster else redis.Redis
    return kind.from_url(settings.redis_url, **_common(settings) | options)


def _common(settings: "Settings") -> dict[str, Any]:
    limits: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_SECONDS_MAX,
        "socket_timeout": REPLY_SECONDS_MAX,
    }
    if not settings.redis_url.startswith("rediss://"):
        return limits
    files = {
        "ssl_ca_certs": settings.redis_cafile,
        "ssl_certfile": settings.redis_certfile,
        "ssl_keyfile": settings.redis_keyfile,
    }
    return limits | {name: str(path) for name, path in files.items() if path is not None}
