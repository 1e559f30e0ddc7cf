"""Applying events to one view: states from memory or the sidecars, rows to Redis, the feature log."""

from collections.abc import Sequence

from services.feature_store import feast_layout
from services.features.row_store import EntityWrite, FeatureStore, LostError, Standing
from services.features.state_cache import Budget, Cache, Held
from services.features.view_state import Entity, Event, Row, ViewLogic
from services.runtime import metrics
from streams import records, topics
from streams.partials import StateError
from streams.producer import BatchProducer, Record


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

    @property
    def view(self) -> str:
        """The view's name."""
        return self.logic.view.name

    def forget(self, partition: int) -> None:
        """Drop what is remembered of a partition: another worker may have had it, or a write failed."""
        self._budget.forget(self.view, partition)

    async def write(self, partition: int, at: Standing, events: Sequence[Event]) -> None:
        """Apply events to their entities and write those that changed; repeats change nothing.

        Raises:
            RefusedError: Somebody else has written an entity meanwhile; `forget` before the next try.
            LostError: What was written is not stored any more, or cannot be read.
        """
        entities, by_key = self._group(events)
        cache = self._budget.cache(self.view, partition)
        held = await self._load(cache, at, list(by_key))
        rows: list[tuple[bytes, Held, Row]] = []
        applied = 0
        for key, own in by_key.items():
            state = held[key].state
            new = self.logic.apply(state, *own)
            applied += new
            if new:
                rows.append((key, held[key], self.logic.row(state)))
        # The log comes first: behind a crash the rows would be repeats, and never be logged.
        await self._log(partition, [(entities[key], row) for key, _, row in rows])
        try:
            await self._write(cache, at, rows)
            metrics.FEATURE_ROWS.labels(self.view).inc(len(rows))
        finally:  # of a write that was refused in part, the next try finds that part as repeats
            self._count("applied", applied)
            self._count("repeated", sum(map(len, by_key.values())) - applied)
        self._budget.trim()

    async def _write(self, cache: Cache, at: Standing, rows: Sequence[tuple[bytes, Held, Row]]) -> None:
        writes = []
        for key, held, row in rows:
            fields = self.logic.fields(held.state, row, at.generation)
            sidecar = fields[self._field]
            writes.append(EntityWrite(key, held.version, fields))
            held.version = feast_layout.sidecar_version(sidecar)
            cache.note(key, len(sidecar))
        await self._store.write(at, self._field, writes)

    def _group(self, events: Sequence[Event]) -> tuple[dict[bytes, Entity], dict[bytes, list[Event]]]:
        by_entity = self.logic.by_entity(events)
        self._count("no_entity", len(events) - sum(map(len, by_entity.values())))
        entities = {self.logic.key_of(entity): entity for entity in by_entity}
        return entities, {key: by_entity[entity] for key, entity in entities.items()}

    async def _load(self, cache: Cache, at: Standing, keys: list[bytes]) -> dict[bytes, Held]:
        entries = cache.entries
        unknown = [key for key in keys if key not in entries]
        held = {key: entries[key] for key in keys if key in entries}
        for key in held:
            entries.move_to_end(key)
        if unknown:
            sidecars = await self._store.sidecars(at, unknown, self._field)
            for key, sidecar in zip(unknown, sidecars, strict=True):
                held[key] = entries[key] = self._read(sidecar, at.generation)
                cache.note(key, len(sidecar or b""))
        return held

    def _read(self, sidecar: bytes | None, generation: int) -> Held:
        """Read a state back; what another generation has written, or another format, counts as nothing."""
        if sidecar is None:
            return Held(self.logic.load(None), b"")
        try:
            version = feast_layout.sidecar_version(sidecar)
            if feast_layout.sidecar_generation(version) != generation:
                return Held(self.logic.load(None), version)
        except feast_layout.LayoutError:
            return Held(self.logic.load(None), sidecar)
        try:
            return Held(self.logic.load(sidecar), version)
        except StateError as error:
            raise LostError(self.view, f"a state cannot be read: {error}") from error

    async def _log(self, partition: int, rows: Sequence[tuple[Entity, Row]]) -> None:
        if not rows:
            return
        view = self.view
        log = [
            records.FeatureRow(
                view=view, entity=list(entity), event_time_ms=row.event_time_ms, values=list(row.values)
            )
            for entity, row in rows
        ]
        to_partition = partition % await self._producer.partitions(topics.FEATURE_LOG.name)
        batch: list[Record] = [(view.encode(), records.encode(record), []) for record in log]
        await self._producer.send(topics.FEATURE_LOG.name, to_partition, batch)

    def _count(self, result: str, events: int) -> None:
        if events:
            metrics.FEATURE_EVENTS.labels(self.view, result).inc(events)
