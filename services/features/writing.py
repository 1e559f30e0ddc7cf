"""Applying events to one view: states from memory or the sidecars, rows to Redis, the feature log."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from services import feast_layout, telemetry
from services.features.states import Entity, EntityState, Event, Row, ViewLogic
from services.features.store import EntityWrite, FeatureStore
from streams import records, topics
from streams.producer import BatchProducer, Record

STATES_MAX = 2000
"""Entities of one view and partition held in memory. One more costs a read of its sidecar, nothing else."""


class ViewWriter:
    """One view. Its memory is a cache: `forget` is always safe."""

    def __init__(self, logic: ViewLogic, store: FeatureStore, producer: BatchProducer) -> None:
        """Share the process's connections."""
        self.logic = logic
        self._store = store
        self._producer = producer
        self._field = feast_layout.sidecar_field(logic.view.name)
        self._states: dict[int, OrderedDict[bytes, EntityState]] = {}

    def forget(self, partition: int) -> None:
        """Drop what is remembered of a partition: another worker may have had it, or a write failed."""
        self._states.pop(partition, None)

    async def write(self, partition: int, events: Sequence[Event]) -> None:
        """Apply events to their entities and write those that changed; repeats change nothing."""
        entities, by_key = self._group(events)
        states = await self._load(partition, list(by_key))
        rows: list[tuple[bytes, EntityState, Row]] = []
        for key, own in by_key.items():
            applied = sum([self.logic.apply(states[key], event) for event in own])
            self._count("applied", applied)
            self._count("repeated", len(own) - applied)
            if applied:
                rows.append((key, states[key], self.logic.row(states[key])))
        writes = [EntityWrite(key, self.logic.fields(state, row)) for key, state, row in rows]
        await asyncio.gather(
            self._store.write(writes), self._log(partition, [(entities[key], row) for key, _, row in rows])
        )
        telemetry.FEATURE_ROWS.labels(self.logic.view.name).inc(len(rows))
        while len(states) > STATES_MAX:
            states.popitem(last=False)

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

    async def _load(self, partition: int, keys: list[bytes]) -> OrderedDict[bytes, EntityState]:
        states = self._states.setdefault(partition, OrderedDict())
        unknown = [key for key in keys if key not in states]
        if unknown:
            for key, sidecar in zip(unknown, await self._store.sidecars(unknown, self._field), strict=True):
                states[key] = self.logic.load(sidecar)
        for key in keys:
            states.move_to_end(key)
        return states

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
