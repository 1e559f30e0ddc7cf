"""What the features process keeps in Redis: entity rows with their sidecars, watermarks, progress.

Every write names the stored value that it is based on, and is refused if another value is stored: a row by
the version of its sidecar, progress and watermarks by the previous progress. So a worker that lost its
partition, or works from an outdated cache, changes nothing; a worker whose write is refused starts again
from the stored values.

A view is built in *generations*. A new generation begins when a view is new or its definition changed, when
the stored rows are gone, or when a replay is requested. It resets progress and watermarks, and the state in
rows of earlier generations is ignored. Readers still see those rows until each is overwritten.

Redis and Kafka belong together: progress and sidecars hold offsets. If you delete and recreate a source
topic, empty the online store as well.
"""

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self

import msgspec
import redis.exceptions
import structlog

from services.feature_store import feast_layout
from services.features import lua_scripts
from services.features.view_progress import (
    ProgressUpdate,
    ViewGeneration,
    ViewPosition,
    ViewProgress,
    decode_progress,
    encode_progress,
    progress_key,
    watermark_keys,
)
from services.runtime import times, watermarks
from services.runtime.redis_commands import encode
from services.runtime.redis_pipeline import AsyncPipeline
from services.runtime.settings import Settings
from streams.outages import OutageError

log = structlog.get_logger()

WATCH_SECONDS = 2.0
"""Interval between two health checks of the connection."""
SCAN_COUNT = 1000
"""Keys per round trip of a sweep."""


@dataclasses.dataclass(frozen=True, slots=True)
class EntityWrite:
    """All fields of one entity and view, always in the same order; written atomically."""

    key: bytes
    version: bytes
    """Version of the stored sidecar that this write is based on; empty if none is stored."""
    fields: Mapping[bytes, bytes]
    expiry: bytes = b""
    """Seconds after which Redis forgets the entity, as text; ``0``: never; empty: as before this write."""
    may_be_gone: bool = False
    """Whether the row that the write is based on may have expired: then its absence is no loss."""


class WriteConflictError(OutageError):
    """The stored value is not the one that this write is based on; the write changed nothing."""

    def __init__(self, view: str, message: str) -> None:
        """Name the view."""
        super().__init__(f"{view}: {message}")
        self.view = view


class StateLostError(OutageError):
    """What this process stored is gone, or cannot be read: the view must be rebuilt."""

    def __init__(self, view: str, message: str) -> None:
        """Name the view."""
        super().__init__(f"{view}: {message}")
        self.view = view


class RowStore:
    """The process's connection to Redis."""

    def __init__(self, pipeline: AsyncPipeline, project: str) -> None:
        """Use a pipeline to the online store, and its client for rare commands, for one Feast project."""
        self._pipeline = pipeline
        self._project = project
        self._client = pipeline.client
        self.fault: str | None = "not connected yet"
        """Why Redis is unreachable; None while it is reachable."""

    @classmethod
    def connect(cls, settings: Settings, project: str) -> Self:
        """Make a store; the first command connects."""
        return cls(AsyncPipeline.connect(settings), project)

    async def close(self) -> None:
        """Close the connections."""
        await self._pipeline.close()

    @contextlib.asynccontextmanager
    async def running(self, watch: Callable[[], Any] | None = None) -> AsyncIterator[None]:
        """Check the connection until the block ends, then close it.

        Args:
            watch: Awaited every `WATCH_SECONDS` while Redis is reachable.
        """
        watching = asyncio.create_task(self._watch(watch), name="redis watch")
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await self.close()

    async def _watch(self, watch: Callable[[], Any] | None) -> None:
        while True:
            try:
                await self._client.ping()
                self.fault = None
                if watch is not None:
                    await watch()
            except (redis.exceptions.RedisError, OSError) as error:
                self.fault = f"Redis cannot be reached: {error}"
            except Exception as error:  # noqa: BLE001  # the watch must survive any error
                log.warning("features.watch_failed", error=repr(error))
            await asyncio.sleep(WATCH_SECONDS)

    async def announce(self, view: str, partitions: int) -> None:
        """Give every partition of a view a watermark; `NEVER` where none is stored."""
        keys = watermark_keys(self._project, view)
        command = lua_scripts.announce.command(*keys, partitions, watermarks.NEVER)
        await lua_scripts.run(self._pipeline, lua_scripts.announce, [command])

    async def generations(self, views: Sequence[str]) -> list[ViewGeneration | None]:
        """Read the generations of views; None for a view that is not stored."""
        names = ("generation", "definition", "start", "unswept", "topics")
        commands = [encode(("HMGET", progress_key(self._project, view), *names)) for view in views]
        found = await self._pipeline.exchange(commands)
        return [
            None
            if number is None
            else ViewGeneration(
                int(number),
                definition.decode(),
                start.decode(),
                unswept=unswept == b"1",
                topics=(topics or b"").decode(),
            )
            for number, definition, start, unswept, topics in found
        ]

    async def note_topics(self, view: str, digest: str) -> None:
        """Store the digest of the topics that a view's progress is of; see `ViewGeneration.topics`."""
        await self._pipeline.exchange([encode(("HSET", progress_key(self._project, view), "topics", digest))])

    async def begin_generation(
        self,
        view: str,
        partitions: int,
        *,
        expected: ViewGeneration | None,
        definition: str,
        start: str,
        sweep: bool = False,
    ) -> None:
        """Begin a new generation if the stored one is still the expected one; else change nothing.

        Its number is the wall time in milliseconds, or one more than the stored number if that is higher. So
        it exceeds the last number even if the store has lost it. With ``sweep``, rows of earlier generations
        are marked to be deleted: see `sweep`.
        """
        before = expected.number if expected else 0
        command = lua_scripts.begin.command(
            progress_key(self._project, view),
            *watermark_keys(self._project, view),
            before or b"",
            max(before + 1, times.now_ms()),
            definition,
            start,
            partitions,
            watermarks.NEVER,
            int(sweep),
        )
        await lua_scripts.run(self._pipeline, lua_scripts.begin, [command])

    async def sweep(self, view: str, generation: int, fields: Sequence[bytes]) -> int:
        """Delete a view's fields from rows of earlier generations; return the number of rows changed.

        Needed when the definition changed: readers cannot decode rows of another definition. When a view is
        rebuilt from the same definition, its rows stay until each is overwritten.

        Args:
            view: The view.
            generation: Rows of this generation and of later ones stay.
            fields: The view's fields, the sidecar first.
        """
        keys: list[bytes] = []
        swept = 0
        suffix = self._project.encode()
        async for key in self._client.scan_iter(match=b"*" + suffix, count=SCAN_COUNT):
            if feast_layout.project_of(key) != suffix:  # such as b"workshop" for b"shop"
                continue
            keys.append(key)
            if len(keys) == SCAN_COUNT:
                swept += await self._sweep(keys, generation, fields)
                keys.clear()
        swept += await self._sweep(keys, generation, fields)
        await self._client.hdel(progress_key(self._project, view), "unswept")
        return swept

    async def _sweep(self, keys: Sequence[bytes], generation: int, fields: Sequence[bytes]) -> int:
        sidecar_format = feast_layout.SIDECAR_FORMAT
        commands = [lua_scripts.sweep.command(key, generation, sidecar_format, *fields) for key in keys]
        return sum(reply > 0 for reply in await lua_scripts.run(self._pipeline, lua_scripts.sweep, commands))

    async def sidecars(
        self, position: ViewPosition, keys: Sequence[bytes], field: bytes
    ) -> list[bytes | None]:
        """Read one field of each entity.

        The view's progress is read last, over the same connection. So a store that has lost data since (for
        instance by a restart from an older file) cannot supply a state to continue from.

        Raises:
            WriteConflictError: The stored progress is not the known one.
        """
        rows = [encode(("HGET", key, field)) for key in keys]
        progress = encode(("HGET", progress_key(self._project, position.view), position.stage_partition))
        *found, stored = await self._pipeline.exchange(rows, [progress])
        if (stored or b"") != position.progress.stored:
            raise _progress_conflict(position)
        return found

    async def write(self, position: ViewPosition, field: bytes, writes: Sequence[EntityWrite]) -> None:
        """Write entities, each in one atomic command, all in one round trip.

        Args:
            position: The view's position.
            field: The field of the sidecar.
            writes: The rows.

        Raises:
            WriteConflictError: Another version of some entity is stored; others may have been written.
            StateLostError: An older version of some entity is stored, or none.
        """
        if not writes:
            return
        changing = itertools.chain.from_iterable((name, None) for name in writes[0].fields)
        row = lua_scripts.write_row.template(None, field, None, None, *changing)
        commands = [
            row.encode(write.key, write.version, write.expiry, *write.fields.values()) for write in writes
        ]
        replies = await lua_scripts.run(self._pipeline, lua_scripts.write_row, commands)
        refused = [(write, reply) for write, reply in zip(writes, replies, strict=True) if reply != 1]
        lost = sum(
            _is_older(reply, write.version, position.generation)
            for write, reply in refused
            if reply or not write.may_be_gone
        )
        if lost:
            raise StateLostError(
                position.view, f"the store holds older versions of {lost} of {len(writes)} rows"
            )
        if refused:
            raise WriteConflictError(
                position.view, f"another worker has changed {len(refused)} of {len(writes)} rows"
            )

    async def progress(self, stage_partitions: Sequence[tuple[str, str]]) -> list[ViewProgress]:
        """Read the progress of each pair of view and stage partition."""
        commands = [
            encode(("HGET", progress_key(self._project, view), stage_partition))
            for view, stage_partition in stage_partitions
        ]
        return [decode_progress(raw) for raw in await self._pipeline.exchange(commands)]

    async def update_progress(self, updates: Sequence[ProgressUpdate]) -> list[ViewProgress]:
        """Store progress and publish watermarks, once the rows are written; return the stored progress.

        Raises:
            WriteConflictError: Another progress or generation of some view is stored; the progress of others
                may have been stored.
        """
        written = [encode_progress(update.after) for update in updates]
        commands = [
            lua_scripts.advance.command(
                progress_key(self._project, update.before.view),
                *watermark_keys(self._project, update.before.view),
                update.before.generation,
                update.before.stage_partition,
                update.before.progress.stored,
                raw,
                *(() if update.watermark_ms is None else (update.partition, update.watermark_ms)),
            )
            for update, raw in zip(updates, written, strict=True)
        ]
        for update, reply in zip(
            updates, await lua_scripts.run(self._pipeline, lua_scripts.advance, commands), strict=True
        ):
            if reply != 1:
                raise _progress_conflict(update.before)
        return [
            msgspec.structs.replace(update.after, stored=raw)
            for update, raw in zip(updates, written, strict=True)
        ]


def _progress_conflict(position: ViewPosition) -> WriteConflictError:
    return WriteConflictError(
        position.view, f"another worker has changed the progress of {position.stage_partition}"
    )


def _is_older(stored: bytes, version: bytes, generation: int) -> bool:
    """Tell whether a stored sidecar lacks events that ``version``, of this generation, includes."""
    try:
        if feast_layout.sidecar_generation(version) != generation:
            return False
    except feast_layout.LayoutError:  # no version, or of another format: this generation did not write it
        return False
    try:
        if feast_layout.sidecar_generation(stored) != generation:
            return feast_layout.sidecar_generation(stored) < generation
    except feast_layout.LayoutError:  # the row is gone, or is of an older format
        return True
    offsets, needed = feast_layout.decode_sidecar(stored)[0], feast_layout.decode_sidecar(version)[0]
    return any(offsets.get(partition, -1) < offset for partition, offset in needed.items())
