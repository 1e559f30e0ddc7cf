"""What the features process keeps in Redis: entity rows with their sidecars, watermarks, progress.

Every write says on what it is based, and is refused if something else is stored: a row by the version
of its sidecar, progress and watermarks by the progress before. So a worker that was away, or works from
an outdated memory, changes nothing; and whoever is refused starts again from what is stored.

A view is built in *generations*. A new one begins when a view is new or defined otherwise, when what
was stored is gone, or when a replay is asked for: progress and watermarks are forgotten, and rows of
earlier generations count as nothing, while readers see them until they are written anew.

Redis and Kafka belong together: progress and sidecars name offsets. Whoever deletes and recreates a
source topic must empty the online store as well.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self

import msgspec
import redis.exceptions
import structlog

from services.feature_store import feast_layout
from services.features import lua_scripts
from services.runtime import watermarks
from services.runtime.redis_pipeline import AsyncPipeline, encode
from services.runtime.settings import Settings

log = structlog.get_logger()

WATCH_SECONDS = 2.0
SCAN_COUNT = 1000
"""Keys looked at in one round trip of a sweep."""


class Progress(msgspec.Struct, frozen=True):
    """How far a view has been handled in a partition, all of it acknowledged by every sink."""

    next_offset: int = 0
    watermarks_ms: dict[int, int] = {}
    """By source partition."""
    stored: bytes = b""
    """These bytes as they were read, empty if there are none yet: what a rise is based on."""


@dataclasses.dataclass(frozen=True, slots=True)
class EntityWrite:
    """All fields of one entity and view, always in the same order: written at once or not at all."""

    key: bytes
    version: bytes
    """Of the stored sidecar on which this is based; empty for none."""
    fields: Mapping[bytes, bytes]


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Where a view stands in one place: on this every write is based."""

    view: str
    generation: int
    place: str
    """Stage and partition."""
    progress: Progress


@dataclasses.dataclass(frozen=True, slots=True)
class Rise:
    """A view's new progress in one place, with the watermark that it publishes, if any."""

    before: Standing
    after: Progress
    partition: int
    watermark_ms: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Build:
    """The generation of a view that is stored."""

    generation: int
    definition: str
    start: str
    """``earliest``, or ``now``: a place without progress begins where the worker is."""
    unswept: bool = False
    """Rows of earlier generations are still to be swept out."""


class RefusedError(Exception):
    """Something else is stored than this write is based on; it has changed nothing."""

    def __init__(self, view: str, message: str) -> None:
        """Name the view."""
        super().__init__(f"{view}: {message}")
        self.view = view


class LostError(Exception):
    """What this process has stored is gone, or cannot be read: the view must be built anew."""

    def __init__(self, view: str, message: str) -> None:
        """Name the view."""
        super().__init__(f"{view}: {message}")
        self.view = view


class FeatureStore:
    """The process's connection to Redis."""

    def __init__(self, pipeline: AsyncPipeline) -> None:
        """Use a pipeline to the online store, and its client for what is rare."""
        self._pipeline = pipeline
        self._client = pipeline.client
        self.fault: str | None = "not connected yet"
        """Why Redis cannot be reached, None while it can."""

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Make a store; the first command connects."""
        return cls(AsyncPipeline.connect(settings))

    async def close(self) -> None:
        """Close the connections."""
        await self._pipeline.close()

    @contextlib.asynccontextmanager
    async def running(self, watch: Callable[[], Any] | None = None) -> AsyncIterator[None]:
        """Watch the connection until the block ends, then close it.

        Args:
            watch: Awaited every two seconds while Redis can be reached.
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
            except Exception as error:  # noqa: BLE001  # the next look must come, whatever went wrong
                log.warning("features.watch_failed", error=repr(error))
            await asyncio.sleep(WATCH_SECONDS)

    async def announce(self, view: str, partitions: int) -> None:
        """Give every partition of a view a watermark, `NEVER` where it has none yet."""
        key = watermarks.key(view)
        commands = [encode(("HSETNX", key, number, watermarks.NEVER)) for number in range(partitions)]
        await self._pipeline.exchange(commands)

    async def builds(self, views: Sequence[str]) -> list[Build | None]:
        """Read the generations of views; None for one that is not stored."""
        names = ("generation", "definition", "start", "unswept")
        commands = [encode(("HMGET", _progress_key(view), *names)) for view in views]
        found = await self._pipeline.exchange(commands)
        return [
            None
            if number is None
            else Build(int(number), definition.decode(), start.decode(), unswept=unswept == b"1")
            for number, definition, start, unswept in found
        ]

    async def begin(
        self,
        view: str,
        partitions: int,
        *,
        instead_of: Build | None,
        definition: str,
        start: str,
        sweep: bool = False,
    ) -> None:
        """Begin a new generation, unless somebody else has done so meanwhile.

        Its number is above the last one, also if that is lost: it is the time in milliseconds. With
        ``sweep``, rows of earlier generations are to be swept out: see `sweep`.
        """
        before = instead_of.generation if instead_of else 0
        command = lua_scripts.begin.command(
            _progress_key(view),
            watermarks.key(view),
            before or b"",
            max(before + 1, time.time_ns() // 1_000_000),
            definition,
            start,
            partitions,
            watermarks.NEVER,
            int(sweep),
        )
        await lua_scripts.run(self._pipeline, lua_scripts.begin, [command])

    async def sweep(self, view: str, generation: int, project: str, fields: Sequence[bytes]) -> int:
        """Delete a view's fields wherever an earlier generation has written them; return of how many rows.

        Readers cannot make sense of rows that were written by another definition. While a view is built
        anew by the same one, its rows stay until they are written again.

        Args:
            view: The view.
            generation: Its rows stay, and later ones.
            project: With which all keys end.
            fields: Of the view, the sidecar first.
        """
        keys: list[bytes] = []
        swept = 0
        async for key in self._client.scan_iter(match=b"*" + project.encode(), count=SCAN_COUNT):
            keys.append(key)
            if len(keys) == SCAN_COUNT:
                swept += await self._sweep(keys, generation, fields)
                keys.clear()
        swept += await self._sweep(keys, generation, fields)
        await self._client.hdel(_progress_key(view), "unswept")
        return swept

    async def _sweep(self, keys: Sequence[bytes], generation: int, fields: Sequence[bytes]) -> int:
        form = feast_layout.SIDECAR_FORMAT
        commands = [lua_scripts.sweep.command(key, generation, form, *fields) for key in keys]
        return sum(reply > 0 for reply in await lua_scripts.run(self._pipeline, lua_scripts.sweep, commands))

    async def sidecars(self, at: Standing, keys: Sequence[bytes], field: bytes) -> list[bytes | None]:
        """Read one field of each entity.

        The view's progress is read behind them, over the same connection: a store that has lost something
        since, by a restart from an older file for instance, gives no state to go on from.

        Raises:
            RefusedError: Another progress is stored than the one that is known.
        """
        rows = [encode(("HGET", key, field)) for key in keys]
        progress = encode(("HGET", _progress_key(at.view), at.place))
        *found, stored = await self._pipeline.exchange(rows, [progress])
        if (stored or b"") != at.progress.stored:
            raise RefusedError(at.view, f"{at.place} is not where it was left")
        return found

    async def write(self, at: Standing, field: bytes, writes: Sequence[EntityWrite]) -> None:
        """Write entities, each in one atomic command, all in one round trip.

        Args:
            at: Where the view stands.
            field: Of the sidecar.
            writes: The rows.

        Raises:
            RefusedError: Of some entity another version is stored; the others may be written.
            LostError: Of some entity an older version is stored, or none any more.
        """
        if not writes:
            return
        changing = itertools.chain.from_iterable((name, None) for name in writes[0].fields)
        row = lua_scripts.write_row.template(None, field, None, *changing)
        commands = [row.encode(write.key, write.version, *write.fields.values()) for write in writes]
        replies = await lua_scripts.run(self._pipeline, lua_scripts.write_row, commands)
        refused = [(write, reply) for write, reply in zip(writes, replies, strict=True) if reply != 1]
        lost = sum(_is_older(reply, write.version, at.generation) for write, reply in refused)
        if lost:
            raise LostError(at.view, f"{lost} of {len(writes)} rows are stored as they were before")
        if refused:
            raise RefusedError(at.view, f"{len(refused)} of {len(writes)} rows are stored otherwise")

    async def progress(self, places: Sequence[tuple[str, str]]) -> list[Progress]:
        """Read how far views have been handled, each in a place."""
        commands = [encode(("HGET", _progress_key(view), place)) for view, place in places]
        return [_progress(raw) for raw in await self._pipeline.exchange(commands)]

    async def rise(self, rises: Sequence[Rise]) -> list[Progress]:
        """Note progress and publish watermarks, once the rows are written; return the progress stored.

        Raises:
            RefusedError: For some view another progress or generation is stored; others may be noted.
        """
        written = [_progress_bytes(rise.after) for rise in rises]
        commands = [
            lua_scripts.advance.command(
                _progress_key(rise.before.view),
                watermarks.key(rise.before.view),
                rise.before.generation,
                rise.before.place,
                rise.before.progress.stored,
                raw,
                *(() if rise.watermark_ms is None else (rise.partition, rise.watermark_ms)),
            )
            for rise, raw in zip(rises, written, strict=True)
        ]
        for rise, reply in zip(
            rises, await lua_scripts.run(self._pipeline, lua_scripts.advance, commands), strict=True
        ):
            if reply != 1:
                raise RefusedError(rise.before.view, f"{rise.before.place} is not where it was left")
        return [
            msgspec.structs.replace(rise.after, stored=raw) for rise, raw in zip(rises, written, strict=True)
        ]


def _is_older(stored: bytes, version: bytes, generation: int) -> bool:
    """Tell whether a stored sidecar lacks something that this version had, of this generation."""
    try:
        if feast_layout.sidecar_generation(version) != generation:
            return False
    except feast_layout.LayoutError:  # none, or of another format: it was not ours
        return False
    try:
        if feast_layout.sidecar_generation(stored) != generation:
            return feast_layout.sidecar_generation(stored) < generation
    except feast_layout.LayoutError:  # none any more, or of an older format
        return True
    offsets, needed = feast_layout.decode_sidecar(stored)[0], feast_layout.decode_sidecar(version)[0]
    return any(offsets.get(partition, -1) < offset for partition, offset in needed.items())


def _progress(raw: bytes | None) -> Progress:
    if raw is None:
        return Progress()
    return msgspec.structs.replace(msgspec.json.decode(raw, type=Progress), stored=raw)


def _progress_bytes(progress: Progress) -> bytes:
    marks = sorted(progress.watermarks_ms.items())
    return msgspec.json.encode({"next_offset": progress.next_offset, "watermarks_ms": dict(marks)})


def _progress_key(view: str) -> str:
    """Name the hash of a view's progress, in the slot of its watermarks on a Redis Cluster."""
    return f"driftline:progress:{{{watermarks.key(view)}}}"
