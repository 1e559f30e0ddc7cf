"""The views of one entity: which fields of its hash to read, and how they become columns. No I/O.

Views with the same join keys share one hash per entity, so one command reads all of them.
"""

import abc
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from services.feature_store import feast_layout, own_events, view_definition
from services.feature_store.plan import OwnEvent, ValueType, View, ViewKind
from services.feature_store.served_features import AnyArray, Bools, Int64s, ServedView
from services.feature_store.window_values import WindowValues
from services.runtime import watermarks
from services.runtime.redis_commands import KeyTemplate
from streams.observations import StoredObservations
from streams.stored_arrays import StoredStateError
from streams.stored_tiles import StoredTiles

Raw = bytes | None
Parsed = TypeVar("Parsed")

_NULL_DOUBLE = feast_layout.encode_value(ValueType.DOUBLE, float("nan"))
_SINGLE_ROWS_MAX = 6
"""Up to this many rows of one entity are evaluated faster one by one (`StoredTiles.at`) than all at once."""
_SINGLE_ROWS_TILES_MAX = 512
"""Up to this many tiles are summed faster in plain Python than with numpy's arrays."""
_NO_TIMES = np.empty(0, dtype=np.int64)


@dataclasses.dataclass(frozen=True)
class Entities:
    """The distinct entities among n rows."""

    commands: list[bytes]
    """One per entity."""
    row_count: int
    indexes: list[int] | None
    """The index of each row's entity, -1 for none.

    None instead of a list if no entity is repeated or missing, so that row i is entity i.
    """

    @property
    def size(self) -> int:
        """Number of entities."""
        return len(self.commands)

    @cached_property
    def inverse(self) -> Int64s:
        """(n,): the index of each row's entity, -1 for none."""
        return np.arange(self.row_count) if self.indexes is None else np.array(self.indexes, dtype=np.int64)

    @cached_property
    def rows(self) -> list[Int64s]:
        """The indexes of the rows of each entity."""
        if self.indexes is None:
            return list(self.inverse.reshape(-1, 1))
        order = np.argsort(self.inverse, kind="stable")
        limits = np.searchsorted(self.inverse[order], np.arange(self.size + 1))
        return [order[limits[entity] : limits[entity + 1]] for entity in range(self.size)]


class EntityGroup:
    """Encodes the reads of the views with the same join keys, and decodes the replies."""

    def __init__(
        self, project: str, views: Sequence[View], *, detailed: bool, own_event: OwnEvent | None = None
    ) -> None:
        """Compile the commands; see `services.feature_store.online_reader.OnlineReader` for ``detailed``."""
        self._own_event = own_event
        self._own = {view.name: own_events.of_view(view) for view in views if self._is_own(view)}
        self._names = [key.name for key in views[0].join_keys]
        self._key_of = feast_layout.entity_key_encoder(project, views[0].join_keys)
        self._readers: list[tuple[_ViewReader, slice]] = []
        fields: list[bytes] = []
        for reader in _readers(project, views, detailed=detailed):
            self._readers.append((reader, slice(len(fields), len(fields) + len(reader.fields))))
            fields += reader.fields
        self._hmget = KeyTemplate("HMGET", *fields)

    def encode(self, entity_columns: Mapping[str, Sequence[Any]]) -> Entities:
        """Encode one command per entity; KeyError for a missing column."""
        columns = [list(entity_columns[name]) for name in self._names]
        values = list(zip(*columns, strict=True))
        index = dict.fromkeys(values)
        has_missing = any(None in column for column in columns)
        indexes = None
        if has_missing or len(index) < len(values):
            if has_missing:
                index = {value: None for value in index if None not in value}
            numbers = dict(zip(index, itertools.count(), strict=False))
            indexes = list(map(numbers.get, values, itertools.repeat(-1)))
        return Entities(self._hmget.encode(map(self._key_of, index)), len(values), indexes)

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: Entities,
        times_ms: Int64s,
        beyond: Bools,
        served: dict[tuple[str, str], AnyArray],
        views: dict[str, ServedView],
        events: Sequence[Any] | None = None,
    ) -> None:
        """Add the group's columns and views to those served.

        Mark rows that are older than a view's retention. ``events`` are the requests of the rows, which are
        needed if they count in their own features.
        """
        for reader, fields in self._readers:
            values = replies if len(self._readers) == 1 else [reply[fields] for reply in replies]
            newest_ms = np.full(len(times_ms), watermarks.NEVER) if reader.is_timed else _NO_TIMES
            own = self._own.get(reader.views[0].name)
            read_ms = times_ms if own is None else times_ms - own_events.BEFORE_MS
            columns = reader.serve(values, entities, read_ms, beyond, newest_ms)
            if own is not None and self._own_event is not None and self._own_event.is_included:
                assert events is not None, "the requests are needed: they count in their own features"
                states = [reader.state(reply) for reply in values]
                with_own = own_events.fill(own, states, entities.rows, times_ms, events, columns)
                newest_ms[with_own] = times_ms[with_own]
            if reader.is_timed:
                view = reader.views[0]
                views[view.name] = ServedView(read_ms, newest_ms, view.ttl_ms)
                _hide(columns, views[view.name].hidden)
            served.update(zip(reader.references, columns, strict=True))

    def _is_own(self, view: View) -> bool:
        own = self._own_event
        return own is not None and view.source is not None and view.source.topic == own.topic


def _hide(columns: Sequence[AnyArray], hidden: Bools) -> None:
    if hidden.any():
        for column in columns:
            column[hidden] = None if column.dtype == object else np.nan


class _ViewReader(abc.ABC):
    """Reads one view, or several whose event times are not needed."""

    is_timed = True
    """Whether rows have an age."""

    def __init__(self, views: Sequence[View], fields: Sequence[bytes]) -> None:
        self.views = views
        self.references = [(view.name, name) for view in views for name in view.feature_names]
        self.fields = fields

    def state(self, reply: Sequence[Raw]) -> Any:
        """Return the stored state of one entity of a stream view, None without one."""
        raise NotImplementedError

    @abc.abstractmethod
    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: Entities,
        times_ms: Int64s,
        beyond: Bools,
        newest_ms: Int64s,
    ) -> list[AnyArray]:
        """Return a column (n,) for each feature, as of each row's event time.

        Args:
            replies: The fields of each entity.
            entities: The entities of the rows.
            times_ms: (n,) the event times of the rows.
            beyond: (n,) set to true for rows that are older than the view's retention.
            newest_ms: (n,) set to the event times of what is served, if ``is_timed``.
        """


class _BatchReader(_ViewReader):
    """Decodes what Feast has written, which is the same at every event time."""

    def __init__(self, views: Sequence[View], *, is_timed: bool, exact: bool) -> None:
        fields = [
            feast_layout.feature_field(view.name, name) for view in views for name in view.feature_names
        ]
        if is_timed:
            fields.append(feast_layout.timestamp_field(views[0].name))
        super().__init__(views, fields)
        self.is_timed = is_timed
        self._columns = _RowDecoder(views, exact=exact)

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: Entities,
        times_ms: Int64s,
        beyond: Bools,
        newest_ms: Int64s,
    ) -> list[AnyArray]:
        del times_ms, beyond
        if self.is_timed:
            newest_ms[:] = _decode_timestamps([reply[-1] for reply in replies])[entities.inverse]
            replies = [reply[:-1] for reply in replies]
        return self._columns.decode(replies, None if entities.indexes is None else entities.inverse)


def _decode_timestamps(raws: Sequence[Raw]) -> Int64s:
    """Return event times (entities + 1,), `watermarks.NEVER` without a row; the last one is for no entity."""
    distinct = {raw: feast_layout.decode_timestamp(raw) for raw in {*raws, None}}  # most rows share few times
    times = (distinct[raw] for raw in (*raws, None))
    return np.array([watermarks.NEVER if time is None else time for time in times], dtype=np.int64)


class _RowDecoder:
    """Converts rows of encoded values to columns.

    Doubles, the most frequent type, are decoded all at once.
    """

    def __init__(self, views: Sequence[View], *, exact: bool) -> None:
        self._types = [feature.type for view in views for feature in view.features]
        self._exact = exact
        doubles = [] if exact else [kind is ValueType.DOUBLE for kind in self._types]
        self._doubles = [index for index, is_double in enumerate(doubles) if is_double]

    def decode(self, rows: Sequence[Sequence[Raw]], index: Int64s | None) -> list[AnyArray]:
        """Return a column (n,) for each feature.

        ``index`` (n,) are positions in ``rows``, -1 for no row; without it ``rows`` are the n rows.
        """
        raws = list(zip(*rows, strict=True)) or [()] * len(self._types)
        found = _decode_doubles([raws[number] for number in self._doubles])
        columns: dict[int, AnyArray] = {}
        if found is not None:
            spread = found.copy() if index is None else _take(found, index)
            if len(spread) == len(self._types):
                return list(spread)
            columns = dict(zip(self._doubles, spread, strict=True))
        for number, kind in enumerate(self._types):
            if number not in columns:
                column = _decode_column(kind, raws[number], exact=self._exact)
                columns[number] = column if index is None else _take(column, index)
        return [columns[number] for number in range(len(self._types))]


def _decode_doubles(columns: Sequence[Sequence[Raw]]) -> npt.NDArray[np.float64] | None:
    """Decode columns of doubles to a view (columns, rows).

    Return None if there are no columns or rows, or if a value of another type is among them.
    """
    if not columns or not columns[0]:
        return None
    size_bytes = feast_layout.DOUBLE_BYTES
    raws = [*itertools.chain.from_iterable(columns)]
    joined = b"".join(cast("list[bytes]", raws) if all(raws) else [raw or _NULL_DOUBLE for raw in raws])
    if len(joined) != len(raws) * size_bytes:
        return None
    if joined[::size_bytes].count(feast_layout.DOUBLE_TAG) != len(raws):
        return None
    strides = (size_bytes * len(columns[0]), size_bytes)
    return np.ndarray((len(columns), len(columns[0])), dtype="<f8", buffer=joined, offset=1, strides=strides)


def _decode_column(kind: ValueType, raws: Sequence[Raw], *, exact: bool) -> AnyArray:
    values = [feast_layout.decode_value(raw) for raw in raws]
    if exact or not kind.is_number:
        column = np.empty(len(values), dtype=object)
        column[:] = values  # np.array would make a matrix of lists with equal lengths
        return column
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _take(values: AnyArray, index: Int64s) -> AnyArray:
    """Return (..., n) values of (..., rows) by index (n,); -1 is missing."""
    missing = np.full((*values.shape[:-1], 1), None if values.dtype == object else np.nan, dtype=values.dtype)
    return np.concatenate([values, missing], axis=-1)[..., index]


def _parse(sidecar: Raw, definition: int, parse: Callable[[bytes], Parsed]) -> Parsed | None:
    """Parse a state; return None if there is none that this definition of the view has written.

    A state of another definition or format is being replaced by the features process.
    """
    if sidecar is None:
        return None
    try:
        return parse(feast_layout.sidecar_state(sidecar, definition))
    except (StoredStateError, feast_layout.LayoutError):
        return None


class _WindowedReader(_ViewReader):
    """Evaluates tiles at each row's event time."""

    def __init__(self, project: str, view: View) -> None:
        super().__init__([view], [feast_layout.sidecar_field(view.name)])
        self._definition = view_definition.short_digest(project, view)
        self._values = WindowValues(view)
        self._parse = functools.partial(StoredTiles, self._values.layout)

    def state(self, reply: Sequence[Raw]) -> StoredTiles | None:
        return _parse(reply[0], self._definition, self._parse)

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: Entities,
        times_ms: Int64s,
        beyond: Bools,
        newest_ms: Int64s,
    ) -> list[AnyArray]:
        served = self._values.missing(len(times_ms))
        for (sidecar,), rows in zip(replies, entities.rows, strict=True):
            tiles = self.state([sidecar])
            if tiles is None:
                continue
            if len(rows) <= _SINGLE_ROWS_MAX and len(tiles) <= _SINGLE_ROWS_TILES_MAX:
                for row in rows.tolist():
                    moment = tiles.at(int(times_ms[row]))
                    beyond[row] |= moment.is_beyond
                    newest_ms[row] = moment.newest_ms
                    for column, value in zip(served, moment.values, strict=True):
                        column[row] = value
                continue
            values, too_old = tiles.values(times_ms[rows])
            beyond[rows] |= too_old
            newest_ms[rows] = tiles.newest_ms(times_ms[rows])
            for column, part in zip(served, values, strict=True):
                column[rows] = part
        return self._values.fit(served)


class _LatestReader(_ViewReader):
    """Finds the newest observation at each row's event time."""

    def __init__(self, project: str, view: View, *, exact: bool) -> None:
        super().__init__([view], [feast_layout.sidecar_field(view.name)])
        self._definition = view_definition.short_digest(project, view)
        self._columns = _RowDecoder([view], exact=exact)

    def state(self, reply: Sequence[Raw]) -> StoredObservations | None:
        return _parse(reply[0], self._definition, StoredObservations)

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: Entities,
        times_ms: Int64s,
        beyond: Bools,
        newest_ms: Int64s,
    ) -> list[AnyArray]:
        found: list[list[bytes]] = []
        index = np.full(len(times_ms), -1, dtype=np.int64)
        for (sidecar,), rows in zip(replies, entities.rows, strict=True):
            observations = self.state([sidecar])
            if observations is None:
                continue
            positions, too_old = observations.find(times_ms[rows], ttl_ms=0)  # hidden rows have an age, too
            beyond[rows] |= too_old
            numbers: dict[int, int] = {}  # decode only observations that some row needs, each once
            for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
                if position < 0:
                    continue
                if position not in numbers:
                    numbers[position] = len(found)
                    found.append(feast_layout.split_row(observations.row(position)))
                newest_ms[row] = observations.times_ms[position]
                index[row] = numbers[position]
        return self._columns.decode(found, index)


def _readers(project: str, views: Sequence[View], *, detailed: bool) -> Iterator[_ViewReader]:
    """Yield the readers of an entity's views; batch views whose event times are not needed share one."""
    untimed = [view for view in views if view.kind is ViewKind.BATCH and not (detailed or view.ttl_ms)]
    if untimed:
        yield _BatchReader(untimed, is_timed=False, exact=False)
    for view in views:
        if view.kind is ViewKind.WINDOWED:
            yield _WindowedReader(project, view)
        elif view.kind is ViewKind.LATEST:
            yield _LatestReader(project, view, exact=detailed)
        elif view not in untimed:
            yield _BatchReader([view], is_timed=True, exact=detailed)
