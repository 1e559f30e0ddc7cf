"""What the features process keeps in Redis: entity rows with their sidecars, watermarks, progress.

Redis and Kafka belong together: progress and sidecars name offsets. Whoever deletes and recreates a
source topic must empty the online store as well.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

import msgspec
import redis.asyncio
import redis.exceptions

from services import watermarks
from services.settings import Settings

PING_SECONDS = 2.0


class Progress(msgspec.Struct):
    """How far a partition of a topic has been handled, all of it acknowledged by every sink."""

    next_offset: int = 0
    watermarks_ms: dict[int, int] = {}
    """By source partition."""


@dataclasses.dataclass(frozen=True, slots=True)
class EntityWrite:
    """All fields of one entity and view: written at once or not at all."""

    key: bytes
    fields: Mapping[bytes, bytes]


class FeatureStore:
    """The process's connection to Redis."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        """Use a client made with ``protocol=2``."""
        self._client: Any = client
        self.fault: str | None = "not connected yet"
        """Why Redis cannot be reached, None while it can."""

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Make a store; the first command connects."""
        return cls(redis.asyncio.Redis.from_url(settings.redis_url, protocol=2))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch the connection until the block ends, then close it."""
        watching = asyncio.create_task(self._watch(), name="redis watch")
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await self._client.aclose()

    async def _watch(self) -> None:
        while True:
            try:
                await self._client.ping()
                self.fault = None
            except (redis.exceptions.RedisError, OSError) as error:
                self.fault = f"Redis cannot be reached: {error}"
            await asyncio.sleep(PING_SECONDS)

    async def announce(self, view: str, partitions: int) -> None:
        """Give every partition of a view a watermark, `NEVER` where it has none yet."""
        async with self._client.pipeline(transaction=False) as pipe:
            for partition in range(partitions):
                pipe.hsetnx(watermarks.key(view), str(partition), watermarks.NEVER)
            await pipe.execute()

    async def sidecars(self, keys: Sequence[bytes], field: bytes) -> list[bytes | None]:
        """Read one field of each entity."""
        async with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, field)
            found: list[bytes | None] = await pipe.execute()
        return found

    async def write(self, writes: Sequence[EntityWrite]) -> None:
        """Write entities, each in one atomic command."""
        if not writes:
            return
        async with self._client.pipeline(transaction=False) as pipe:
            for write in writes:
                pipe.hset(write.key, mapping=write.fields)
            await pipe.execute()

    async def progress(self, topic: str, partition: int) -> Progress:
        """Read how far a partition has been handled."""
        raw = await self._client.hget(_progress_key(topic), str(partition))
        return Progress() if raw is None else msgspec.json.decode(raw, type=Progress)

    async def finish(
        self, topic: str, partition: int, progress: Progress, view_watermarks_ms: Mapping[str, int]
    ) -> None:
        """Publish a partition's watermarks and note its progress; call it once its rows are written."""
        async with self._client.pipeline(transaction=True) as pipe:
            for view, watermark_ms in view_watermarks_ms.items():
                pipe.hset(watermarks.key(view), str(partition), watermark_ms)
            pipe.hset(_progress_key(topic), str(partition), msgspec.json.encode(progress))
            await pipe.execute()


def _progress_key(topic: str) -> str:
    return f"driftline:progress:{topic}"
