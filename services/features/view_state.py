"""The logic of one stream view: apply events to entity states, and make the rows that Feast reads. Pure."""

import dataclasses
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from services.feature_store import feast_layout, view_definition
from services.feature_store.plan import View, ViewKind
from services.feature_store.window_values import WindowValues
from streams.observations import Observations
from streams.records import FeatureValue
from streams.stored_tiles import StoredTiles
from streams.tiles import Tiles

Entity = tuple[Any, ...]


class Event(msgspec.Struct, frozen=True, gc=False):
    """A decoded source event with its partition and offset, by which repeats are recognised."""

    value: Any
    """A struct with the fields of the source's schema."""
    time_ms: int
    source_partition: int
    source_offset: int


@dataclasses.dataclass(slots=True)
class EntityState:
    """The state of one entity of a view."""

    offsets: dict[int, int]
    """The last applied offset by source partition."""
    history: Tiles | Observations


class EntityRow(NamedTuple):
    """The features of an entity as of its newest event."""

    event_time_ms: int
    values: Sequence[FeatureValue]
    encoded: Sequence[bytes]
    """The values in Feast's encoding."""


class _KindLogic(Protocol):
    """The logic that differs between the kinds of stream views."""

    def history(self, raw: bytes | None) -> Tiles | Observations: ...
    def add(self, history: Any, events: Sequence[Event]) -> None: ...
    def row(self, history: Any) -> EntityRow: ...


class ViewLogic:
    """Applies events to entity states of one stream view, and encodes rows."""

    def __init__(self, project: str, view: View) -> None:
        """Compile encoders and accessors once."""
        self.view = view
        self.key_of = feast_layout.entity_key_encoder(project, view.join_keys)
        self._definition = view_definition.short_digest(project, view)
        self._entity_of = _getter([key.name for key in view.join_keys])
        self._kind_logic = _KIND_LOGICS[view.kind](view)
        self._fields = [feast_layout.feature_field(view.name, name) for name in view.feature_names]
        self._fields += [feast_layout.timestamp_field(view.name), feast_layout.sidecar_field(view.name)]

    def entity(self, event: Any) -> Entity | None:
        """Return the values of the view's join keys; None if one is null: such an event has no entity."""
        entity = self._entity_of(event)
        return None if None in entity else entity

    def by_entity(self, events: Sequence[Event]) -> dict[Entity, list[Event]]:
        """Group events by entity; drop events without an entity."""
        found: defaultdict[Entity, list[Event]] = defaultdict(list)
        for entity, event in zip(
            map(self._entity_of, [event.value for event in events]), events, strict=True
        ):
            found[entity].append(event)
        return {entity: grouped for entity, grouped in found.items() if None not in entity}

    def load(self, sidecar: bytes | None) -> EntityState:
        """Decode a stored state; return an empty state if there is none."""
        if sidecar is None:
            return EntityState({}, self._kind_logic.history(None))
        offsets, raw = feast_layout.decode_sidecar(sidecar)
        return EntityState(offsets, self._kind_logic.history(raw))

    def stored(self, history: bytes) -> StoredTiles | None:
        """Return a written history for reading windows; None for the newest events, which are no windows."""
        windows = self._kind_logic
        return windows.stored(history) if isinstance(windows, _Windowed) else None

    def apply(self, state: EntityState, *events: Event) -> int:
        """Apply events in order; return the number of new ones. Offsets of a source partition must rise."""
        new = _new(state.offsets, events)
        if new:
            self._kind_logic.add(state.history, new)
        return len(new)

    def row(self, state: EntityState) -> EntityRow:
        """Return the row as of the entity's newest event; the state must have events."""
        return self._kind_logic.row(state.history)

    def fields(self, state: EntityState, row: EntityRow, generation: int = 0) -> dict[bytes, bytes]:
        """Return all fields to write into the entity's hash, always in the same order."""
        event_time = feast_layout.encode_timestamp(row.event_time_ms)
        sidecar = feast_layout.encode_sidecar(
            state.offsets, state.history.to_bytes(), generation, self._definition
        )
        return dict(zip(self._fields, (*row.encoded, event_time, sidecar), strict=True))


class _Windowed:
    """Keeps tiles of the aggregated columns."""

    def __init__(self, view: View) -> None:
        self._values = WindowValues(view)
        self._layout = self._values.layout
        self._values_of = _getter(self._layout.columns)
        self._format = feast_layout.RowFormat([feature.type for feature in view.features])

    def stored(self, raw: bytes) -> StoredTiles:
        return StoredTiles(self._layout, raw)

    def history(self, raw: bytes | None) -> Tiles:
        return Tiles(self._layout) if raw is None else Tiles.from_bytes(self._layout, raw)

    def add(self, history: Tiles, events: Sequence[Event]) -> None:
        values_of = self._values_of
        if len(events) == 1:
            history.add(events[0].time_ms, values_of(events[0].value))
            return
        history.add_all([event.time_ms for event in events], [values_of(event.value) for event in events])

    def row(self, history: Tiles) -> EntityRow:
        values = self._values.newest(history)
        return EntityRow(history.newest_ms, values, self._format.split(self._format.encode(values)))


class _Latest:
    """Keeps the newest observations, all columns."""

    def __init__(self, view: View) -> None:
        self._values_of = _getter(view.feature_names)
        self._format = feast_layout.RowFormat([feature.type for feature in view.features])

    def history(self, raw: bytes | None) -> Observations:
        return Observations() if raw is None else Observations.from_bytes(raw)

    def add(self, history: Observations, events: Sequence[Event]) -> None:
        encode, values_of = self._format.encode, self._values_of
        history.add_all(
            [event.time_ms for event in events],
            [event.source_partition for event in events],
            [event.source_offset for event in events],
            [encode(values_of(event.value)) for event in events],
        )

    def row(self, history: Observations) -> EntityRow:
        newest = history.newest
        return EntityRow(
            newest.event_time_ms, self._format.decode(newest.row), self._format.split(newest.row)
        )


def _new(offsets: dict[int, int], events: Sequence[Event]) -> Sequence[Event]:
    """Return the events that are not repeats; update ``offsets`` in place."""
    new = []
    for event in events:
        partition, offset = event.source_partition, event.source_offset
        if offset > offsets.get(partition, -1):
            offsets[partition] = offset
            new.append(event)
    return new


_KIND_LOGICS: Mapping[ViewKind, Callable[[View], _KindLogic]] = {
    ViewKind.WINDOWED: _Windowed,
    ViewKind.LATEST: _Latest,
}


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that reads these attributes as a tuple, even if there is only one."""
    get = operator.attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)
