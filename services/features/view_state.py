"""What one view makes of events: the state of each entity, and the row that Feast's readers see. Pure."""

import dataclasses
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from services.feature_store import feast_layout
from services.feature_store.plan import Kind, View
from services.feature_store.window_values import WindowValues
from streams.observations import Observations
from streams.records import FeatureValue
from streams.windows import Tiles

Entity = tuple[Any, ...]


class Event(msgspec.Struct, frozen=True, gc=False):
    """A decoded source event and where it comes from: the identity by which repeats are known."""

    value: Any
    """A struct with the fields of the source's schema."""
    time_ms: int
    source_partition: int
    source_offset: int


@dataclasses.dataclass(slots=True)
class EntityState:
    """All that is remembered of one entity of a view."""

    offsets: dict[int, int]
    """The last applied offset by source partition."""
    history: Tiles | Observations


class Row(NamedTuple):
    """The features as of an entity's newest event."""

    event_time_ms: int
    values: Sequence[FeatureValue]
    encoded: Sequence[bytes]
    """The values as Feast's readers find them."""


class _Behaviour(Protocol):
    """What differs between the kinds of stream views."""

    def history(self, raw: bytes | None) -> Tiles | Observations: ...
    def add(self, history: Any, events: Sequence[Event]) -> None: ...
    def row(self, history: Any) -> Row: ...


class ViewLogic:
    """The rules of one stream view."""

    def __init__(self, project: str, view: View) -> None:
        """Compile what is the same for every event."""
        self.view = view
        self.key_of = feast_layout.entity_key_encoder(project, view.join_keys)
        self._entity_of = _getter([key.name for key in view.join_keys])
        self._behaviour = _BEHAVIOURS[view.kind](view)
        self._fields = [feast_layout.feature_field(view.name, name) for name in view.feature_names]
        self._fields += [feast_layout.timestamp_field(view.name), feast_layout.sidecar_field(view.name)]

    def entity(self, event: Any) -> Entity | None:
        """Return the values of the view's join keys; None if one is null: the event concerns no entity."""
        entity = self._entity_of(event)
        return None if None in entity else entity

    def by_entity(self, events: Sequence[Event]) -> dict[Entity, list[Event]]:
        """Divide events by their entity; leave out those that concern none."""
        found: defaultdict[Entity, list[Event]] = defaultdict(list)
        for entity, event in zip(
            map(self._entity_of, [event.value for event in events]), events, strict=True
        ):
            found[entity].append(event)
        return {entity: own for entity, own in found.items() if None not in entity}

    def load(self, sidecar: bytes | None) -> EntityState:
        """Read a state back; an empty one if there is none yet."""
        if sidecar is None:
            return EntityState({}, self._behaviour.history(None))
        offsets, raw = feast_layout.decode_sidecar(sidecar)
        return EntityState(offsets, self._behaviour.history(raw))

    def apply(self, state: EntityState, *events: Event) -> int:
        """Count events in, in order; return how many are new. Of one source partition, offsets only rise."""
        new = _new(state.offsets, events)
        if new:
            self._behaviour.add(state.history, new)
        return len(new)

    def row(self, state: EntityState) -> Row:
        """Return the row as of the entity's newest event; only for a state with events."""
        return self._behaviour.row(state.history)

    def fields(self, state: EntityState, row: Row, generation: int = 0) -> dict[bytes, bytes]:
        """Return all that is written into the entity's hash, at once; the fields always in the same order."""
        event_time = feast_layout.encode_timestamp(row.event_time_ms)
        sidecar = feast_layout.encode_sidecar(state.offsets, state.history.to_bytes(), generation)
        return dict(zip(self._fields, (*row.encoded, event_time, sidecar), strict=True))


class _Windowed:
    """Tiles of the aggregated columns."""

    def __init__(self, view: View) -> None:
        self._values = WindowValues(view)
        self._layout = self._values.layout
        self._values_of = _getter(self._layout.columns)
        self._format = feast_layout.RowFormat([feature.type for feature in view.features])

    def history(self, raw: bytes | None) -> Tiles:
        return Tiles(self._layout) if raw is None else Tiles.from_bytes(self._layout, raw)

    def add(self, history: Tiles, events: Sequence[Event]) -> None:
        values_of = self._values_of
        if len(events) == 1:
            history.add(events[0].time_ms, values_of(events[0].value))
            return
        history.add_all([event.time_ms for event in events], [values_of(event.value) for event in events])

    def row(self, history: Tiles) -> Row:
        values = self._values.newest(history)
        return Row(history.newest_ms, values, self._format.split(self._format.encode(values)))


class _Latest:
    """The newest observations, whole."""

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

    def row(self, history: Observations) -> Row:
        newest = history.newest
        return Row(newest.event_time_ms, self._format.decode(newest.row), self._format.split(newest.row))


def _new(offsets: dict[int, int], events: Sequence[Event]) -> Sequence[Event]:
    """Return the events that are not repeats, and note their offsets."""
    new = []
    for event in events:
        partition, offset = event.source_partition, event.source_offset
        if offset > offsets.get(partition, -1):
            offsets[partition] = offset
            new.append(event)
    return new


_BEHAVIOURS: Mapping[Kind, Callable[[View], _Behaviour]] = {Kind.WINDOWED: _Windowed, Kind.LATEST: _Latest}


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that reads these attributes as a tuple, also if there is only one."""
    get = operator.attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)
