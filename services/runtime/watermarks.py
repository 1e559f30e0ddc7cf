"""Public watermarks: the event time up to which a feature view, or a model's drift or learning, is complete.

The Redis hash ``driftline:watermarks:<name>`` has one field per partition. ``<name>`` is
``<project>.<view>`` for a feature view, ``drift.<model>`` or ``learning.<model>`` with the single field 0, or
``source.<topic>`` if idle partitions are detected. The watermark of a name is the minimum over its
partitions: no event up to it is missing. Every partition of a view has a field from the start, `NEVER` until
it reports, so a partition that has not reported holds the watermark back.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

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


def least(fields: Mapping[Any, Any]) -> int | None:
    """Return the watermark of a hash's fields; None until every partition has reported."""
    watermark_ms = min((int(value) for value in fields.values()), default=NEVER)
    return None if watermark_ms == NEVER else watermark_ms


async def read(client: Any, names: Sequence[str]) -> dict[str, int | None]:
    """Read watermarks through a `redis.asyncio.Redis` in one round trip; by name, None if not complete."""
    async with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(key(name))
        hashes = await pipe.execute()
    return {name: least(fields) for name, fields in zip(names, hashes, strict=True)}


def publish_blocking(client: Any, name: str, watermark_ms: int, partition: int = 0) -> None:
    """Publish a watermark through a `redis.Redis`."""
    client.hset(key(name), str(partition), watermark_ms)


async def wait_for(client: Any, names: Sequence[str], event_time_ms: int, timeout_seconds: float) -> bool:
    """Wait until all of these watermarks have passed an event time; return False after the timeout."""
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
