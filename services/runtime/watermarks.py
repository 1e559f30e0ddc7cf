"""Public watermarks: how far in event time each feature view, each model's drift and learning is complete.

A Redis hash ``driftline:watermarks:<name>`` holds one field a partition. ``<name>`` is a feature view,
or ``drift.<model>`` or ``learning.<model>`` with the one field 0, or ``source.<topic>`` where idle
partitions are watched. The watermark of a name is the least of its partitions: no event up to it is still
missing. Every partition of a view has a field from the start, `NEVER` until it reports, so a partition that
has not been heard of holds the name back.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

NEVER = -(2**63)
"""Of a partition that has not reported yet."""
POLL_SECONDS_MIN, POLL_SECONDS_MAX = 0.002, 0.025
"""While waiting: short at first, because the wait is mostly short, then at 40 looks a second."""


def key(name: str) -> str:
    """Name the hash of a watermark."""
    return f"driftline:watermarks:{name}"


def least(fields: Mapping[Any, Any]) -> int | None:
    """Return the watermark of a hash's fields; None as long as any partition has not reported."""
    watermark_ms = min((int(value) for value in fields.values()), default=NEVER)
    return None if watermark_ms == NEVER else watermark_ms


async def read(client: Any, names: Sequence[str]) -> dict[str, int | None]:
    """Read watermarks through a `redis.asyncio.Redis`, in one round trip."""
    async with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(key(name))
        hashes = await pipe.execute()
    return {name: least(fields) for name, fields in zip(names, hashes, strict=True)}


def publish_blocking(client: Any, name: str, watermark_ms: int, partition: int = 0) -> None:
    """Publish a watermark through a `redis.Redis`."""
    client.hset(key(name), str(partition), watermark_ms)


async def wait_for(client: Any, names: Sequence[str], event_time_ms: int, timeout_seconds: float) -> bool:
    """Wait until every one of these has passed an event time; tell whether they have within the limit."""
    deadline = time.monotonic() + timeout_seconds
    pause_seconds = POLL_SECONDS_MIN
    while True:
        found = await read(client, names)
        if all(watermark is not None and watermark >= event_time_ms for watermark in found.values()):
            return True
        left_seconds = deadline - time.monotonic()
        if left_seconds <= 0:
            return False
        await asyncio.sleep(min(pause_seconds, left_seconds))
        pause_seconds = min(2 * pause_seconds, POLL_SECONDS_MAX)
