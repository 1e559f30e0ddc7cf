"""Fakes in memory of what the stages use: the row store, the producer and a partition's log."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from services.feature_store import feast_layout
from services.feature_store.plan import Column, FeatureAggregation, StreamSource, ValueType, View, ViewKind
from services.features.generations import EARLIEST, Generations
from services.features.heartbeat_store import ForwardedProgress
from services.features.row_store import EntityWrite, StateLostError, WriteConflictError
from services.features.view_progress import ProgressUpdate, ViewGeneration, ViewPosition, ViewProgress
from services.runtime import redis_commands
from streams import codec

TOPIC = "orders"
NOON_MS = 1_372_680_000_000
SOURCE = StreamSource(
    TOPIC,
    "event_time",
    codec.parse_ddl("id string, event_time timestamp not null, shop string, amount double"),
    ("id",),
    lateness_ms=5000,
)
BY_ID = View(
    "by_id",
    ViewKind.WINDOWED,
    (Column("id", ValueType.STRING),),
    (Column("total", ValueType.DOUBLE),),
    0,
    SOURCE,
    (FeatureAggregation("total", "amount", "sum", 60_000),),
    10_000,
)
BY_SHOP = dataclasses.replace(BY_ID, name="by_shop", join_keys=(Column("shop", ValueType.STRING),))


@dataclasses.dataclass
class FakeRecord:
    """The attributes of a consumer record that the stages read."""

    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int = 0
    topic: str = TOPIC
    key: bytes | None = b"k"
    timestamp: int = 0
    serialized_key_size: int = 1
    serialized_value_size: int = 1


def order(offset: int, second: int, shop: str | None = "mill", id_: str | None = "a", **changes: Any) -> Any:
    """Return the record of an order at noon plus some seconds."""
    time = f"2013-07-01T12:{second // 60:02}:{second % 60:02}Z"
    value = {"id": id_, "event_time": time, "shop": shop, "amount": 1.0}
    return FakeRecord(offset, json.dumps(value).encode(), **changes)


def heartbeat(offset: int, second: int) -> Any:
    return FakeRecord(offset, None, codec.heartbeat(NOON_MS + second * 1000))


@dataclasses.dataclass
class FakeRowStore:
    """Keeps rows and progress in memory and refuses the same writes as the real store."""

    current: dict[str, ViewGeneration] = dataclasses.field(default_factory=dict)
    stored: dict[tuple[str, str], ViewProgress] = dataclasses.field(default_factory=dict)
    rows: dict[bytes, Mapping[bytes, bytes]] = dataclasses.field(default_factory=dict)
    watermarks_ms: dict[tuple[str, int], int] = dataclasses.field(default_factory=dict)
    heartbeats: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Generation and watermark of the last heartbeat that was noted, by view."""
    claims: set[str] = dataclasses.field(default_factory=set)
    swept: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    sidecars_read: int = 0
    updates: int = 0

    async def generations(self, views: Sequence[str]) -> list[ViewGeneration | None]:
        return [self.current.get(view) for view in views]

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
        if self.current.get(view) == expected:
            number = (expected.number if expected else 0) + 1
            self.current[view] = ViewGeneration(number, definition, start, sweep)
            self.stored = {key: value for key, value in self.stored.items() if key[0] != view}

    async def note_topics(self, view: str, digest: str) -> None:
        self.current[view] = dataclasses.replace(self.current[view], topics=digest)

    async def sweep(self, view: str, generation: int, fields: Sequence[bytes]) -> int:
        self.swept.append((view, generation))
        self.current[view] = dataclasses.replace(self.current[view], unswept=False)
        return 1

    async def progress(self, stage_partitions: Sequence[tuple[str, str]]) -> list[ViewProgress]:
        return [self.stored.get(key, ViewProgress()) for key in stage_partitions]

    async def update_progress(self, updates: Sequence[ProgressUpdate]) -> list[ViewProgress]:
        written = []
        for update in updates:
            key = update.before.view, update.before.stage_partition
            known = self.stored.get(key, ViewProgress())
            generation = self.current.get(update.before.view)
            is_current = generation is None or generation.number == update.before.generation
            if known.stored != update.before.progress.stored or not is_current:
                raise WriteConflictError(update.before.view, "another progress is stored")
            self.updates += 1
            after = ViewProgress(update.after.next_offset, update.after.watermarks_ms, b"%d" % self.updates)
            self.stored[key] = after
            if update.watermark_ms is not None:
                self.watermarks_ms[update.before.view, update.partition] = update.watermark_ms
            written.append(after)
        return written

    async def claim(self, intervals_ms: Mapping[str, int]) -> list[str]:
        free = [view for view in intervals_ms if view not in self.claims]
        self.claims |= set(free)
        return free

    async def forwarded(self, view: str, partitions: int) -> ForwardedProgress:
        generation = self.current[view].number
        stored = [self.stored.get((view, f"source-{number}")) for number in range(partitions)]
        marks = [(each or ViewProgress()).watermarks_ms.get(number) for number, each in enumerate(stored)]
        of_generation, written_ms = self.heartbeats.get(view, (0, 0))
        return ForwardedProgress(generation, marks, written_ms if of_generation == generation else None)

    async def note(self, view: str, generation: int, watermark_ms: int) -> None:
        self.heartbeats[view] = generation, watermark_ms

    async def sidecars(
        self, position: ViewPosition, keys: Sequence[bytes], field: bytes
    ) -> list[bytes | None]:
        self.sidecars_read += len(keys)
        return [self.rows.get(key, {}).get(field) for key in keys]

    async def write(self, position: ViewPosition, field: bytes, writes: Sequence[EntityWrite]) -> None:
        for write in writes:
            stored = self.rows.get(write.key, {}).get(field, b"")
            if not stored and write.version:
                raise StateLostError(position.view, "the row is gone")
            if stored and feast_layout.sidecar_version(stored) != write.version:
                raise WriteConflictError(position.view, "another version is stored")
            self.rows[write.key] = write.fields


@dataclasses.dataclass
class ScriptedPipeline:
    """Gives prepared replies and records the commands."""

    replies: list[Any]
    commands: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    client: Any = None

    async def exchange_once(self, commands: Sequence[bytes]) -> list[Any]:
        self.commands += redis_commands.decode(commands)
        return self.replies

    async def exchange(self, *batches: Sequence[bytes]) -> list[Any]:
        return await self.exchange_once([command for batch in batches for command in batch])


@dataclasses.dataclass
class FakeSink:
    """The sink of a view; counts how often it forgets a partition."""

    view: str = "v"
    forgotten: list[int] = dataclasses.field(default_factory=list)

    def forget(self, partition: int) -> None:
        self.forgotten.append(partition)


@dataclasses.dataclass
class FakeProducer:
    """Collects what is sent."""

    partition_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    sent: list[tuple[str, int, Any]] = dataclasses.field(default_factory=list)
    dead_letters: list[Any] = dataclasses.field(default_factory=list)

    async def partitions(self, topic: str) -> int:
        return self.partition_counts.get(topic, 2)

    async def send(self, topic: str, partition: int, batch: Iterable[Any]) -> None:
        self.sent += [(topic, partition, record) for record in batch]

    async def send_dead_letters(self, letters: Sequence[Any]) -> None:
        self.dead_letters += letters

    def sent_to(self, topic: str) -> list[tuple[int, Any]]:
        return [(partition, record) for name, partition, record in self.sent if name == topic]


@dataclasses.dataclass
class FakeLog:
    """Reads the log of one partition again, in steps of some records, as `PartitionReader` does."""

    records: Sequence[Any]
    start: int = 0
    """The first offset that retention has kept."""
    step: int = 3
    errors: list[Exception] = dataclasses.field(default_factory=list)
    """Raised by the next reads, one each."""
    gate: asyncio.Event | None = None
    """Reads wait until it is set."""
    ranges: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    """What was read, as start and stop."""

    @contextlib.asynccontextmanager
    async def opened(self, topic: str, partition: int) -> AsyncIterator["FakeLog"]:
        yield self

    async def earliest(self) -> int:
        return self.start

    async def read(self, start: int, limit: int) -> tuple[Sequence[Any], int]:
        if self.gate is not None:
            await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        stop = min(start + self.step, limit)
        self.ranges.append((start, stop))
        return [record for record in self.records if start <= record.offset < stop], stop


async def started_generations(store: Any, *views: View, topics: str = "") -> Generations:
    """Return generations of these views that have begun."""
    generations = Generations(store, "p", views)
    names = [view.name for view in views]
    await generations.start(dict.fromkeys(names, 2), dict.fromkeys(names, topics))
    return generations


def generation(number: int, definition: str = "d", start: str = EARLIEST) -> ViewGeneration:
    return ViewGeneration(number, definition, start)
