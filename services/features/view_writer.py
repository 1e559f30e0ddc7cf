"""Apply events to one view: states from cache or sidecars, rows to Redis, the feature log to Kafka."""

import math
import time
from collections.abc import Sequence

from services.feature_store import feast_layout
from services.features.erased_events import ErasedEvents
from services.features.row_store import EntityWrite, RowStore, StateLostError, WriteConflictError
from services.features.state_cache import CachedState, StateCache, StateCachePool
from services.features.view_progress import ViewPosition
from services.features.view_state import Entity, EntityRow, Event, ViewLogic
from services.runtime import metrics
from streams import records, topics
from streams.producer import BatchProducer, Record
from streams.stored_arrays import StoredStateError

CACHED_SHARE = 0.5
"""A cached state is read again once this share of the time to its expiry has passed since its last write."""


class ViewWriter:
    """Writes one view. Its memory is only a cache, so `forget` is always safe."""

    def __init__(
        self,
        logic: ViewLogic,
        store: RowStore,
        producer: BatchProducer,
        caches: StateCachePool | None = None,
        expiry_seconds: int = 0,
        erased: ErasedEvents | None = None,
    ) -> None:
        """Share the process's connections, caches and erasures; for ``expiry_seconds`` see `row_expiry`."""
        self.logic = logic
        self._store = store
        self._producer = producer
        self._caches = caches or StateCachePool()
        self._expiry_seconds = expiry_seconds
        self._expiry = b"%d" % expiry_seconds
        self.erased = ErasedEvents() if erased is None else erased
        self._field = feast_layout.sidecar_field(logic.view.name)

    @property
    def view(self) -> str:
        """The view's name."""
        return self.logic.view.name

    def forget(self, partition: int) -> None:
        """Drop the cache of a partition: another worker may have processed it, or a write failed."""
        self._caches.drop(self.view, partition)

    async def write(self, partition: int, position: ViewPosition, events: Sequence[Event]) -> None:
        """Apply events to their entities and write the changed rows; repeated events change nothing.

        Events of erased subjects are left out.

        Raises:
            WriteConflictError: Another worker has changed an entity, or it was erased; `forget` before the
                next attempt.
            StateLostError: A row that was written is no longer stored, or cannot be read.
        """
        kept = self.erased.kept(self.logic, events)
        self._count("erased", len(events) - len(kept))
        try:
            await self._apply(partition, position, kept)
        except StateLostError as error:
            # A row that is gone because its entity was erased is not lost.
            await self.erased.refresh()
            if self._has_erased(kept):
                raise WriteConflictError(self.view, "a subject was erased") from error
            raise

    def _has_erased(self, events: Sequence[Event]) -> bool:
        return any(self.erased.has(self.logic, entity) for entity in self.logic.by_entity(events))

    async def _apply(self, partition: int, position: ViewPosition, events: Sequence[Event]) -> None:
        entities, by_key = self._group(events)
        cache = self._caches.cache(self.view, partition)
        states = await self._load(cache, position, list(by_key))
        rows: list[tuple[bytes, CachedState, EntityRow]] = []
        applied = 0
        for key, events_of_key in by_key.items():
            state = states[key].state
            new = self.logic.apply(state, *events_of_key)
            applied += new
            if new:
                rows.append((key, states[key], self.logic.row(state)))
        # The log comes first: after a crash between the two, the rows would be repeats and never be logged.
        await self._log(partition, [(entities[key], row) for key, _, row in rows])
        try:
            await self._write(cache, position, rows)
            metrics.FEATURE_ROWS.labels(self.view).inc(len(rows))
        finally:  # if part of a write was refused, the next attempt sees the rest as repeats
            self._count("applied", applied)
            self._count("repeated", sum(map(len, by_key.values())) - applied)
        self._caches.trim()

    async def _write(
        self, cache: StateCache, position: ViewPosition, rows: Sequence[tuple[bytes, CachedState, EntityRow]]
    ) -> None:
        writes = []
        now_seconds = time.monotonic()
        for key, cached, row in rows:
            fields = self.logic.fields(cached.state, row, position.generation)
            sidecar = fields[self._field]
            is_first = cached.written_seconds == -math.inf
            expiry = self._expiry if self._expiry_seconds or (is_first and cached.version) else b""
            may_be_gone = not self._is_stored(cached, now_seconds)
            writes.append(EntityWrite(key, cached.version, fields, expiry, may_be_gone))
            cached.version = feast_layout.sidecar_version(sidecar)
            cached.written_seconds = now_seconds
            cache.resize(key, len(sidecar))
        await self._store.write(position, self._field, writes)

    def _is_stored(self, cached: CachedState, now_seconds: float) -> bool:
        """Return whether a state's row cannot have expired since this process has written it."""
        age_seconds = now_seconds - cached.written_seconds
        return not self._expiry_seconds or age_seconds < self._expiry_seconds * CACHED_SHARE

    def _group(self, events: Sequence[Event]) -> tuple[dict[bytes, Entity], dict[bytes, list[Event]]]:
        by_entity = self.logic.by_entity(events)
        self._count("no_entity", len(events) - sum(map(len, by_entity.values())))
        entities = {self.logic.key_of(entity): entity for entity in by_entity}
        return entities, {key: by_entity[entity] for key, entity in entities.items()}

    async def _load(
        self, cache: StateCache, position: ViewPosition, keys: list[bytes]
    ) -> dict[bytes, CachedState]:
        entries = cache.entries
        now_seconds = time.monotonic()
        states = {
            key: entries[key] for key in keys if key in entries and self._is_stored(entries[key], now_seconds)
        }
        unknown = [key for key in keys if key not in states]
        for key in states:
            entries.move_to_end(key)
        if unknown:
            sidecars = await self._store.sidecars(position, unknown, self._field)
            for key, sidecar in zip(unknown, sidecars, strict=True):
                states[key] = entries[key] = self._decode(sidecar, position.generation)
                cache.resize(key, len(sidecar or b""))
        return states

    def _decode(self, sidecar: bytes | None, generation: int) -> CachedState:
        """Decode a stored state; begin empty if it is of another generation or format."""
        if sidecar is None:
            return CachedState(self.logic.load(None), b"")
        try:
            version = feast_layout.sidecar_version(sidecar)
            if feast_layout.sidecar_generation(version) != generation:
                return CachedState(self.logic.load(None), version)
        except feast_layout.LayoutError:
            return CachedState(self.logic.load(None), sidecar)
        try:
            return CachedState(self.logic.load(sidecar), version)
        except StoredStateError as error:
            raise StateLostError(self.view, f"a stored state cannot be read: {error}") from error

    async def _log(self, partition: int, rows: Sequence[tuple[Entity, EntityRow]]) -> None:
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
