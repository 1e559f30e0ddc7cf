"""Applying events to one view: states from memory or the sidecars, rows to Redis, the feature log."""

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence

from services import feast_layout, telemetry
from services.features.states import Entity, EntityState, Event, Row, ViewLogic
from services.features.store import EntityWrite, FeatureStore, LostError, Standing
from streams import records, topics
from streams.partials import StateError
from streams.producer import BatchProducer, Record

HELD_BYTES_MAX = 32 << 20
"""Of the states that a process holds in memory, as they are written; there they take some four times that.
One that is not held costs a read of its sidecar, nothing else."""


@dataclasses.dataclass(slots=True)
class _Held:
    """One entity in memory."""

    state: EntityState
    version: bytes
    """Of the sidecar that is stored."""
    size_bytes: int
    """Of that sidecar."""


class Budget:
    """How much all views of a process hold in memory."""

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        """Begin with nothing held."""
        self.bytes_max = bytes_max
        self.held_bytes = 0


class ViewWriter:
    """One view. Its memory is a cache: `forget` is always safe."""

    def __init__(
        self, logic: ViewLogic, store: FeatureStore, producer: BatchProducer, budget: Budget | None = None
    ) -> None:
        """Share the process's connections and its budget."""
        self.logic = logic
        self._store = store
        self._producer = producer
        self._budget = budget or Budget()
        self._field = feast_layout.sidecar_field(logic.view.name)
        self._held: dict[int, OrderedDict[bytes, _Held]] = {}

    @property
    def view(self) -> str:
        """The view's name."""
        return self.logic.view.name

    def forget(self, partition: int) -> None:
        """Drop what is remembered of a partition: another worker may have had it, or a write failed."""
        for held in self._held.pop(partition, {}).values():
            self._budget.held_bytes -= held.size_bytes

    async def write(self, partition: int, at: Standing, events: Sequence[Event]) -> None:
        """Apply events to their entities and write those that changed; repeats change nothing.

        Raises:
            RefusedError: Somebody else has written an entity meanwhile; `forget` before the next try.
            LostError: What was written is not stored any more, or cannot be read.
        """
        entities, by_key = self._group(events)
        held = await self._load(partition, at, list(by_key))
        rows: list[tuple[bytes, Row]] = []
        applied = repeated = 0
        for key, own in by_key.items():
            state = held[key].state
            new = sum([self.logic.apply(state, event) for event in own])
            applied += new
            repeated += len(own) - new
            if new:
                rows.append((key, self.logic.row(state)))
        self._count("applied", applied)
        self._count("repeated", repeated)
        # The log comes first: behind a crash the rows would be repeats, and never be logged.
        await self._log(partition, [(entities[key], row) for key, row in rows])
        await self._write(at.generation, [(key, held[key], row) for key, row in rows])
        telemetry.FEATURE_ROWS.labels(self.logic.view.name).inc(len(rows))
        while self._budget.held_bytes > self._budget.bytes_max and held:
            self._budget.held_bytes -= held.popitem(last=False)[1].size_bytes

    async def _write(self, generation: int, rows: Sequence[tuple[bytes, _Held, Row]]) -> None:
        writes = []
        for key, held, row in rows:
            fields = self.logic.fields(held.state, row)
            sidecar = feast_layout.with_generation(fields[self._field], generation)
            fields[self._field] = sidecar
            writes.append(EntityWrite(key, held.version, fields))
            held.version = feast_layout.sidecar_version(sidecar)
            self._budget.held_bytes += len(sidecar) - held.size_bytes
            held.size_bytes = len(sidecar)
        await self._store.write(self.logic.view.name, self._field, writes)

    def _group(self, events: Sequence[Event]) -> tuple[dict[bytes, Entity], dict[bytes, list[Event]]]:
        by_entity: dict[Entity, list[Event]] = {}
        for event in events:
            entity = self.logic.entity(event.value)
            if entity is None:
                self._count("no_entity", 1)
            else:
                by_entity.setdefault(entity, []).append(event)
        entities = {self.logic.key_of(entity): entity for entity in by_entity}
        return entities, {key: by_entity[entity] for key, entity in entities.items()}

    async def _load(self, partition: int, at: Standing, keys: list[bytes]) -> OrderedDict[bytes, _Held]:
        held = self._held.setdefault(partition, OrderedDict())
        unknown = [key for key in keys if key not in held]
        if unknown:
            sidecars = await self._store.sidecars(at, unknown, self._field)
            for key, sidecar in zip(unknown, sidecars, strict=True):
                held[key] = self._read(sidecar, at.generation)
        for key in keys:
            held.move_to_end(key)
        return held

    def _read(self, sidecar: bytes | None, generation: int) -> _Held:
        """Read a state back; what another generation has written, or another format, counts as nothing."""
        if sidecar is None:
            return _Held(self.logic.load(None), b"", 0)
        try:
            version = feast_layout.sidecar_version(sidecar)
            if feast_layout.sidecar_generation(version) != generation:
                return _Held(self.logic.load(None), version, 0)
        except feast_layout.LayoutError:
            return _Held(self.logic.load(None), sidecar, 0)
        try:
            held = _Held(self.logic.load(sidecar), version, len(sidecar))
        except StateError as error:
            raise LostError(self.logic.view.name, f"a state cannot be read: {error}") from error
        self._budget.held_bytes += held.size_bytes
        return held

    async def _log(self, partition: int, rows: Sequence[tuple[Entity, Row]]) -> None:
        if not rows:
            return
        view = self.logic.view.name
        log = [
            records.FeatureRow(
                view=view, entity=list(entity), event_time_ms=row.event_time_ms, values=row.values
            )
            for entity, row in rows
        ]
        to_partition = partition % await self._producer.partitions(topics.FEATURE_LOG.name)
        batch: list[Record] = [(view.encode(), records.encode(record), []) for record in log]
        await self._producer.send(topics.FEATURE_LOG.name, to_partition, batch)

    def _count(self, result: str, events: int) -> None:
        if events:
            telemetry.FEATURE_EVENTS.labels(self.logic.view.name, result).inc(events)
