"""What one view makes of events: the state of each entity, and the row that Feast's readers see. Pure."""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from services import feast_layout
from services.feature_plan import Kind, View
from services.window_values import WindowValues
from streams.observations import Observations
from streams.records import FeatureValue
from streams.windows import Tiles

Entity = tuple[Any, ...]


class Event(NamedTuple):
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
    def add(self, history: Any, events: Iterable[Event]) -> None: ...
    def row(self, history: Any) -> Row: ...


class ViewLogic:
    """The rules of one stream view."""

    def __init__(self, project: str, view: View) -> None:
        """Compile what is the same for every event."""
        self.view = view
        self.key_of = feast_layout.entity_key_encoder(project, view.join_keys)
        self._entity_of = _getter([key.name for key in view.join_keys])
        self._behaviour = _BEHAVIOURS[view.kind](view)
        self._sidecar_field = feast_layout.sidecar_field(view.name)
        self._timestamp_field = feast_layout.timestamp_field(view.name)
        self._fields = [feast_layout.feature_field(view.name, name) for name in view.feature_names]

    def entity(self, event: Any) -> Entity | None:
        """Return the values of the view's join keys; None if one is null: the event concerns no entity."""
        entity = self._entity_of(event)
        return None if None in entity else entity

    def load(self, sidecar: bytes | None) -> EntityState:
        """Read a state back; an empty one if there is none yet."""
        if sidecar is None:
            return EntityState({}, self._behaviour.history(None))
        offsets, raw = feast_layout.decode_sidecar(sidecar)
        return EntityState(offsets, self._behaviour.history(raw))

    def apply(self, state: EntityState, *events: Event) -> int:
        """Count events in, in order; return how many are new. Of one source partition, offsets only rise."""
        offsets = state.offsets
        new = []
        for event in events:
            _, _, partition, offset = event
            if offset > offsets.get(partition, -1):
                offsets[partition] = offset
                new.append(event)
        self._behaviour.add(state.history, new)
        return len(new)

    def row(self, state: EntityState) -> Row:
        """Return the row as of the entity's newest event; only for a state with events."""
        return self._behaviour.row(state.history)

    def fields(self, state: EntityState, row: Row, generation: int = 0) -> dict[bytes, bytes]:
        """Return all that is written into the entity's hash, at once."""
        fields = dict(zip(self._fields, row.encoded, strict=True))
        fields[self._timestamp_field] = feast_layout.encode_timestamp(row.event_time_ms)
        history = state.history.to_bytes()
        fields[self._sidecar_field] = feast_layout.encode_sidecar(state.offsets, history, generation)
        return fields


class _Windowed:
    """Tiles of the aggregated columns."""

    def __init__(self, view: View) -> None:
        self._values = WindowValues(view)
        self._layout = self._values.layout
        self._values_of = _getter(self._layout.columns)
        self._kinds = [feature.type for feature in view.features]

    def history(self, raw: bytes | None) -> Tiles:
        return Tiles(self._layout) if raw is None else Tiles.from_bytes(self._layout, raw)

    def add(self, history: Tiles, events: Iterable[Event]) -> None:
        for event in events:
            history.add(event.time_ms, self._values_of(event.value))

    def row(self, history: Tiles) -> Row:
        values = self._values.newest(history)
        return Row(history.newest_ms, values, list(map(feast_layout.encode_value, self._kinds, values)))


class _Latest:
    """The newest observations, whole."""

    def __init__(self, view: View) -> None:
        self._values_of = _getter(view.feature_names)
        self._format = feast_layout.RowFormat([feature.type for feature in view.features])

    def history(self, raw: bytes | None) -> Observations:
        return Observations() if raw is None else Observations.from_bytes(raw)

    def add(self, history: Observations, events: Iterable[Event]) -> None:
        encode, values_of = self._format.encode, self._values_of
        for value, time_ms, partition, offset in events:
            history.add(time_ms, partition, offset, encode(values_of(value)))

    def row(self, history: Observations) -> Row:
        newest = history.newest
        return Row(newest.event_time_ms, self._format.decode(newest.row), self._format.split(newest.row))


_BEHAVIOURS: Mapping[Kind, Callable[[View], _Behaviour]] = {Kind.WINDOWED: _Windowed, Kind.LATEST: _Latest}


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that reads these attributes as a tuple, also if there is only one."""
    get = operator.attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)
