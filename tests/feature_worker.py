"""A features process without Faust: both stages on a real Redis, with the topics in memory."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from services.feature_store.plan import Column, FeatureAggregation, StreamSource, ValueType, View, ViewKind
from services.features.catch_up import BuildProgress
from services.features.decoder import SourceDecoder
from services.features.generations import Generations
from services.features.heartbeat_store import HeartbeatStore
from services.features.row_store import RowStore
from services.features.source_stage import SourceStage
from services.features.stage import FeatureStage
from services.features.view_heartbeats import ViewHeartbeats
from services.features.view_progress import ViewPosition
from services.features.view_stage import ViewStage
from services.features.view_state import Event, ViewLogic
from services.features.view_writer import ViewWriter
from services.runtime import watermarks
from services.runtime.settings import Settings
from streams import codec, topics
from streams.slices import Slice
from tests.shop import without_generation

SOURCE_PARTITIONS, INNER_PARTITIONS = 2, 3
START_MS = 1_372_680_000_000
EVENTS = 40
SLICE_RECORDS = 9
COMMIT_EVERY = 3
"""Slices per commit: slices are committed after they are acknowledged, so a crash repeats some of them."""


class CrashError(BaseException):
    """Simulates that the process is killed at this call."""


@dataclasses.dataclass
class Record:
    """The attributes of a consumer record that the stages read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int = 0
    serialized_key_size: int = 0
    serialized_value_size: int = 0


class Broker:
    """Topics in memory instead of a producer; counts calls, and can simulate a crash at one of them."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, int], list[Record]] = {}
        self.calls = itertools.count()
        self.crash_at: int | None = None
        self.crash_after_effect = False
        self.earliest = 0
        """The first offset that retention has kept, in every log."""
        self.gate: asyncio.Event | None = None
        """Builds wait until it is set."""

    def arm(self, number: int, *, after_effect: bool) -> None:
        self.calls, self.crash_at, self.crash_after_effect = itertools.count(), number, after_effect

    async def call(self, effect: Any) -> Any:
        due = next(self.calls) == self.crash_at
        if due and not self.crash_after_effect:
            raise CrashError
        result = await effect()
        if due:
            raise CrashError
        return result

    async def partitions(self, topic: str) -> int:
        return SOURCE_PARTITIONS if topic == "orders" else INNER_PARTITIONS

    async def send(self, topic: str, partition: int, batch: Iterable[Any]) -> None:
        async def append() -> None:
            log = self.logs.setdefault((topic, partition), [])
            end = len(log)
            log.extend(Record(topic, partition, end + i, *record) for i, record in enumerate(batch))

        await self.call(append)

    @contextlib.asynccontextmanager
    async def reader(self, topic: str, partition: int) -> AsyncIterator["LogReader"]:
        yield LogReader(self.logs.get((topic, partition), []), self.earliest, self.gate)

    async def send_dead_letters(self, letters: Sequence[Any]) -> None:
        if letters:
            await self.send("dead", 0, [(None, letter.value, []) for letter in letters])


@dataclasses.dataclass
class LogReader:
    """Reads a log again, for builds."""

    log: list[Record]
    first_offset: int
    gate: asyncio.Event | None

    async def earliest(self) -> int:
        return self.first_offset

    async def read(self, start: int, limit: int) -> tuple[Any, int]:
        if self.gate is not None:
            await self.gate.wait()
        end = min(start + SLICE_RECORDS, limit)
        return self.log[start:end], end


class CrashingStore(RowStore):
    """The real store; a crash can be simulated at each write."""

    broker: Broker

    async def write(self, position: ViewPosition, field: bytes, writes: Any) -> None:
        if writes:
            await self.broker.call(lambda: super(CrashingStore, self).write(position, field, writes))

    async def update_progress(self, updates: Any) -> Any:
        return await self.broker.call(lambda: super(CrashingStore, self).update_progress(updates))


def source(lateness_ms: int = 0) -> StreamSource:
    ddl = "id string not null, event_time timestamp not null, shop string not null, amount double"
    return StreamSource("orders", "event_time", codec.parse_ddl(ddl), ("id",), lateness_ms)


def views(suffix: str) -> tuple[View, View]:
    """Return a view that is written directly, and one that is forwarded first."""
    key, moved_key = (Column("id", ValueType.STRING),), (Column("shop", ValueType.STRING),)
    total = FeatureAggregation("total", "amount", "sum", 600_000)
    features = (Column("total", ValueType.DOUBLE),)
    direct = View(f"direct{suffix}", ViewKind.WINDOWED, key, features, 0, source(), (total,), 60_000)
    return direct, dataclasses.replace(direct, name=f"moved{suffix}", join_keys=moved_key)


def source_records() -> dict[tuple[str, int], list[Record]]:
    rng = random.Random(5)
    logs: dict[tuple[str, int], list[Record]] = {("orders", p): [] for p in range(SOURCE_PARTITIONS)}
    for number in range(EVENTS):
        partition = rng.randrange(SOURCE_PARTITIONS)
        late = number % 9 == 8
        second = (number - 5 if late else number) * 10
        event = {
            "id": f"{partition}-{rng.randrange(3)}",
            "event_time": f"2013-07-01T12:{second // 60:02}:{second % 60:02}Z",
            "shop": rng.choice(["mill", "dock"]),
            "amount": rng.uniform(-5, 5),
        }
        value = b"{broken" if number % 20 == 13 else json.dumps(event).encode()
        append(logs, partition, value, [])
    for partition in range(SOURCE_PARTITIONS):
        append(logs, partition, None, codec.heartbeat(START_MS + 3_600_000))
    return logs


def append(
    logs: dict[tuple[str, int], list[Record]], partition: int, value: bytes | None, headers: list[Any]
) -> None:
    log = logs["orders", partition]
    log.append(Record("orders", partition, len(log), b"k", value, headers))


@dataclasses.dataclass
class Worker:
    """Reads the broker's logs slice by slice, as a features process, and commits now and then."""

    broker: Broker
    settings: Settings
    suffix: str
    committed: dict[tuple[str, int], int]

    async def run(self) -> None:
        """Process all records; a crash drops everything in memory."""
        async with self.opened() as work:
            await self.consume(work)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Work"]:
        """Wire the stages as the process does."""
        store = CrashingStore.connect(self.settings, "p")
        store.broker = self.broker
        marks = HeartbeatStore.connect(self.settings, "p")
        producer: Any = self.broker
        decoder = SourceDecoder(source(), 1000)
        writers = [ViewWriter(ViewLogic("p", view), store, producer) for view in views(self.suffix)]
        generations = Generations(store, "p", views(self.suffix))
        shared = (store, producer, generations, self.broker.reader)
        stages = [SourceStage(decoder, writers, *shared), ViewStage(decoder, writers[1], *shared)]
        try:
            await generations.start(
                {view.name: await self.broker.partitions(topic_of(view)) for view in views(self.suffix)},
                {view.name: "" for view in views(self.suffix)},
            )
            heartbeats = ViewHeartbeats({self._moved: "orders"}, marks, producer)
            yield Work(store, generations, {stage.topic: stage for stage in stages}, writers, heartbeats)
        finally:
            for stage in stages:
                await stage.release()
            await store.close()
            await marks.close()

    async def consume(self, work: "Work") -> None:
        """Process the logs until no record is left."""
        positions = dict(self.committed)
        handled = 0
        while True:
            waiting = [
                partition
                for partition in self.broker.logs
                if partition[0] in work.stages and self._slice(partition, positions)
            ]
            if not waiting and not work.builds() and not await work.heartbeats.write(self._moved):
                self.committed = positions
                return
            await asyncio.sleep(0)
            for partition in waiting:
                slice_ = Slice(*partition, self._slice(partition, positions), caught_up=False)
                await work.stages[partition[0]].handle(slice_)
                assert slice_.acked
                positions[partition] = slice_.next_offset
                handled += 1
                if handled % COMMIT_EVERY == 0:
                    self.committed = dict(positions)

    @property
    def _moved(self) -> str:
        return views(self.suffix)[1].name

    def _slice(self, partition: tuple[str, int], positions: dict[tuple[str, int], int]) -> list[Record]:
        start = positions.get(partition, 0)
        return self.broker.logs[partition][start : start + SLICE_RECORDS]


@dataclasses.dataclass
class Work:
    """The objects of a worker."""

    store: RowStore
    generations: Generations
    stages: dict[str, FeatureStage]
    writers: list[ViewWriter]
    heartbeats: ViewHeartbeats

    def builds(self) -> dict[str, BuildProgress]:
        return {view: one for stage in self.stages.values() for view, one in stage.builds().items()}

    async def check_store(self, committed: dict[tuple[str, int], int]) -> None:
        """Check for lost data, as the process does every two seconds."""
        await self.generations.check()
        for topic, stage in self.stages.items():
            await stage.start_builds(
                {number: offset for (name, number), offset in committed.items() if name == topic}
            )


def topic_of(view: View) -> str:
    return topics.repartition(view.name) if view.is_repartitioned else "orders"


def loaded() -> Broker:
    """Return a broker with all events."""
    broker = Broker()
    broker.logs |= source_records()
    return broker


def run(
    settings: Settings, suffix: str, crash_at: int | None = None, *, after_effect: bool = False
) -> Broker:
    """Process all events; after a crash, restart from the committed offsets."""
    broker = loaded()
    if crash_at is not None:
        broker.arm(crash_at, after_effect=after_effect)
    worker = Worker(broker, settings, suffix, {})
    try:
        asyncio.run(worker.run())
        assert crash_at is None
    except CrashError:
        asyncio.run(worker.run())
    return broker


def expected(suffix: str, first_offset: int = 0) -> dict[bytes, dict[bytes, bytes]]:
    """Compute the rows from the events alone, from an offset on in each partition."""
    hashes: dict[bytes, dict[bytes, bytes]] = {}
    decoder = SourceDecoder(source(), 1000)
    for view in views(suffix):
        logic, states = ViewLogic("p", view), dict[bytes, Any]()
        for log in source_records().values():
            for _, event in decoder.decode(log[first_offset:], watermarks.NEVER).events:
                assert isinstance(event, Event)
                entity = logic.entity(event.value)
                assert entity is not None
                logic.apply(states.setdefault(logic.key_of(entity), logic.load(None)), event)
        for key, state in states.items():
            hashes.setdefault(key, {}).update(logic.fields(state, logic.row(state)))
    return hashes


def stored(client: Any) -> dict[bytes, dict[bytes, bytes]]:
    """Read all rows, without the generations in which they were written."""
    return {
        key: without_generation(client.hgetall(key))
        for key in client.scan_iter()
        if not key.startswith(b"driftline:")
    }
