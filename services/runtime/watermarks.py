"""Public watermarks: the event time up to which a feature view, or a model's drift or learning, is complete.

The Redis hash ``driftline:watermarks:<name>`` has one field per partition. ``<name>`` is
``<project>.<view>`` for a feature view, ``drift.<model>`` or ``learning.<model>`` with the single field 0, or
``source.<topic>`` if idle partitions are detected. The watermark of a name is the minimum over its
partitions: no event up to it is missing. Every partition of a view has a field from the start, `NEVER` until
it reports, so a partition that has not reported holds the watermark back.

The partitions of a feature view are also in the sorted set ``driftline:watermark-order:{<hash>}``, so that a
read of features costs the same for any number of partitions.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from services.runtime.redis_commands import encode
from services.runtime.redis_pipeline import AsyncPipeline

NEVER = -(2**63)
"""The watermark of a partition that has not reported yet."""
POLL_SECONDS_MIN, POLL_SECONDS_MAX = 0.002, 0.025
"""Pauses between reads while waiting: short at first, as most waits are short; later 40 reads per second."""


def key(name: str) -> str:
    """Return the key of a watermark's hash."""
    return f"driftline:watermarks:{name}"


def of_view(project: str, view: str) -> str:
    """Return the name of a feature view's watermark; projects of one Redis may have views of one name."""
    return f"{project}.{view}"


def order_key(name: str) -> str:
    """Return the key of the partitions of a feature view, in the order of their watermarks.

    It is in the slot of the hash on a Redis Cluster.
    """
    return f"driftline:watermark-order:{{{key(name)}}}"


def first_command(name: str) -> bytes:
    """Return the command that reads a feature view's watermark; `first` decodes the reply."""
    return encode(("ZRANGE", order_key(name), 0, 0, "WITHSCORES"))


def first(reply: Sequence[Any]) -> int | None:
    """Return the watermark of a feature view; None until every partition has reported.

    >>> first([b"3", b"1372680000000"]), first([b"3", b"-9.2233720368547758e+18"]), first([])
    (1372680000000, None, None)
    """
    watermark_ms = int(float(reply[1])) if reply else NEVER
    return None if watermark_ms == NEVER else watermark_ms


def least(fields: Mapping[Any, Any]) -> int | None:
    """Return the watermark of a hash's fields; None until every partition has reported."""
    watermark_ms = min((int(value) for value in fields.values()), default=NEVER)
    return None if watermark_ms == NEVER else watermark_ms


def publish_blocking(client: Any, name: str, watermark_ms: int, partition: int = 0) -> None:
    """Publish a watermark through a `redis.Redis`."""
    client.hset(key(name), str(partition), watermark_ms)


async def wait_for(
    pipeline: AsyncPipeline, names: Sequence[str], event_time_ms: int, timeout_seconds: float
) -> bool:
    """Wait until the watermarks of these views have passed an event time; return False after the timeout."""
    commands = [first_command(name) for name in names]
    deadline = time.monotonic() + timeout_seconds
    pause_seconds = POLL_SECONDS_MIN
    while True:
        found = map(first, await pipeline.exchange(commands))
        if all(watermark is not None and watermark >= event_time_ms for watermark in found):
            return True
        left_seconds = deadline - time.monotonic()
        if left_seconds <= 0:
            return False
        await asyncio.sleep(min(pause_seconds, left_seconds))
        pause_seconds = min(2 * pause_seconds, POLL_SECONDS_MAX)
