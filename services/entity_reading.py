"""Reading the views of one entity: what to ask of its hash, and how the answer becomes columns. No I/O.

Views that share their join keys share one hash for each entity, so one command asks for all of them.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from services import feast_layout, watermarks
from services.feature_plan import Kind, ValueType, View
from services.served_features import AnyArray, Bools, Int64s, ServedView
from streams import windows
from streams.observations import StoredObservations
from streams.partials import StateError

Raw = bytes | None
Parsed = TypeVar("Parsed")

_NULL_DOUBLE = feast_layout.encode_value(ValueType.DOUBLE, float("nan"))
_NO_TIMES = np.empty(0, dtype=np.int64)


@dataclasses.dataclass(frozen=True)
class Entities:
    """The distinct entities among n rows."""

    commands: list[bytes]
    inverse: Int64s
    """(n,): the entity of each row, -1 for none."""

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.commands)

    @property
    def is_each_row(self) -> bool:
        """Tell whether row i is entity i: no entity comes twice, none is missing."""
        return self.size == len(self.inverse)

    @cached_property
    def rows(self) -> list[Int64s]:
        """For each entity the indexes of its rows."""
        order = np.argsort(self.inverse, kind="stable")
        limits = np.searchsorted(self.inverse[order], np.arange(self.size + 1))
        return [order[limits[entity] : limits[entity + 1]] for entity in range(self.size)]


class EntityGroup:
    """The views of one entity: what to ask of its hash, and how to read the answer."""

    def __init__(self, project: str, views: Sequence[View], *, detailed: bool) -> None:
        self._names = [key.name for key in views[0].join_keys]
        self._key_of = feast_layout.entity_key_encoder(project, views[0].join_keys)
        self._views: list[tuple[_ViewReader, slice, list[tuple[str, str]]]] = []
        fields: list[bytes] = []
        for view in views:
            reader = _READERS[view.kind](view, detailed)
            places = [(view.name, name) for name in view.feature_names]
            self._views.append((reader, slice(len(fields), len(fields) + len(reader.fields)), places))
            fields += reader.fields
        self._head = b"*%d\r\n$5\r\nHMGET\r\n" % (len(fields) + 2)
        self._tail = _arguments(fields)

    def ask(self, entity_columns: Mapping[str, Sequence[Any]]) -> Entities:
        columns = [entity_columns[name] for name in self._names]
        index: dict[tuple[Any, ...], int] = {}
        inverse = [
            -1 if None in values else index.setdefault(values, len(index))
            for values in zip(*columns, strict=True)
        ]
        commands = [
            b"%b$%d\r\n%b\r\n%b" % (self._head, len(key), key, self._tail) for key in map(self._key_of, index)
        ]
        return Entities(commands, np.array(inverse, dtype=np.int64))

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: Entities,
        times_ms: Int64s,
        beyond: Bools,
        served: dict[tuple[str, str], AnyArray],
        views: dict[str, ServedView],
    ) -> None:
        """Add the group's columns and views to those served; mark rows beyond a view's retention."""
        for reader, fields, places in self._views:
            view = reader.view
            own = replies if len(self._views) == 1 else [reply[fields] for reply in replies]
            newest_ms = np.full(len(times_ms), watermarks.NEVER) if reader.is_timed else _NO_TIMES
            columns = reader.serve(own, entities, times_ms, beyond, newest_ms)
            if reader.is_timed:
                views[view.name] = ServedView(times_ms, newest_ms, view.ttl_ms)
                _hide(columns, views[view.name].hidden)
            served.update(zip(places, columns, strict=True))


def _arguments(parts: Sequence[bytes]) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _hide(columns: Sequence[AnyArray], hidden: Bools) -> None:
    if hidden.any():
        for column in columns:
            column[hidden] = None if column.dtype == object else np.nan


class _BatchReader:
    """Decodes what Feast has written: the same at every event time."""

    def __init__(self, view: View, detailed: bool) -> None:  # noqa: FBT001  # called from one place
        self.view = view
        self.fields = [feast_layout.feature_field(view.name, name) for name in view.feature_names]
        self.is_timed = detailed or view.ttl_ms > 0
        if self.is_timed:
            self.fields.append(feast_layout.timestamp_field(view.name))
        self._columns = _RowDecoder(view, exact=detailed)

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
        return self._columns.decode(replies, entities.inverse, is_each_row=entities.is_each_row)


def _decode_timestamps(raws: Sequence[Raw]) -> Int64s:
    """Return (entities + 1,) event times, `watermarks.NEVER` for no row; the last is that of no entity."""
    distinct = {raw: feast_layout.decode_timestamp(raw) for raw in {*raws, None}}  # most rows share a few
    times = (distinct[raw] for raw in (*raws, None))
    return np.array([watermarks.NEVER if time is None else time for time in times], dtype=np.int64)


class _RowDecoder:
    """Turns rows of encoded values into columns."""

    def __init__(self, view: View, *, exact: bool) -> None:
        self._types = [feature.type for feature in view.features]
        self._exact = exact
        self._all_doubles = not exact and set(self._types) == {ValueType.DOUBLE}

    def decode(
        self, rows: Sequence[Sequence[Raw]], index: Int64s, *, is_each_row: bool = False
    ) -> list[AnyArray]:
        """Return a column (n,) for each feature, given rows and the index (n,) into them, -1 for none.

        ``is_each_row`` says that the index only counts.
        """
        if self._all_doubles:
            missing = [_NULL_DOUBLE] * len(self._types)
            doubles = _decode_doubles(rows if is_each_row else [*rows, missing], len(self._types))
            if doubles is not None:
                return list(doubles.copy() if is_each_row else doubles.take(index, axis=1))
        columns = list(zip(*rows, strict=True)) or [()] * len(self._types)
        return [
            _take(_decode_column(kind, column, exact=self._exact), index)
            for kind, column in zip(self._types, columns, strict=True)
        ]


def _decode_doubles(rows: Sequence[Sequence[Raw]], width: int) -> npt.NDArray[np.float64] | None:
    """Decode doubles at once to a view (width, rows); None if some value is of another type."""
    size_bytes = feast_layout.DOUBLE_BYTES
    joined = b"".join([raw or _NULL_DOUBLE for raw in itertools.chain.from_iterable(rows)])
    count = len(rows) * width
    if len(joined) != count * size_bytes or joined[::size_bytes].count(feast_layout.DOUBLE_TAG) != count:
        return None
    strides = (size_bytes, size_bytes * width)
    return np.ndarray(
        (width, len(rows)), dtype="<f8", buffer=joined, offset=1 if count else 0, strides=strides
    )


def _decode_column(kind: ValueType, raws: Sequence[Raw], *, exact: bool) -> AnyArray:
    values = [feast_layout.decode_value(raw) for raw in raws]
    if exact or not kind.is_number:
        column = np.empty(len(values), dtype=object)
        column[:] = values  # np.array would make a matrix of lists of one length
        return column
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _take(values: AnyArray, index: Int64s) -> AnyArray:
    """Spread (rows,) over (n,); -1 is missing."""
    missing = None if values.dtype == object else np.nan
    return np.append(values, np.array([missing], dtype=values.dtype))[index]


def _parse(sidecar: Raw, parse: Callable[[bytes], Parsed]) -> Parsed | None:
    """Read a state; None where none is, or one of another definition or format: it is being replaced."""
    if sidecar is None:
        return None
    try:
        return parse(feast_layout.sidecar_state(sidecar))
    except (StateError, feast_layout.LayoutError):
        return None


class _WindowedReader:
    """Evaluates tiles at each row's event time."""

    is_timed = True

    def __init__(self, view: View, detailed: bool) -> None:  # noqa: FBT001  # called from one place
        del detailed
        self.view = view
        self.fields = [feast_layout.sidecar_field(view.name)]
        self._parse = functools.partial(windows.StoredTiles, windows.Layout(view.aggregations, view.hop_ms))

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: Entities,
        times_ms: Int64s,
        beyond: Bools,
        newest_ms: Int64s,
    ) -> list[AnyArray]:
        served: list[AnyArray] = [np.full(len(times_ms), np.nan) for _ in self.view.features]
        for (sidecar,), rows in zip(replies, entities.rows, strict=True):
            tiles = _parse(sidecar, self._parse)
            if tiles is None:
                continue
            values, too_old = tiles.values(times_ms[rows])
            beyond[rows] |= too_old
            newest_ms[rows] = tiles.newest_ms(times_ms[rows])
            for column, part in zip(served, values, strict=True):
                column[rows] = part
        return served


class _LatestReader:
    """Finds the newest observation at each row's event time."""

    is_timed = True

    def __init__(self, view: View, detailed: bool) -> None:  # noqa: FBT001  # called from one place
        self.view = view
        self.fields = [feast_layout.sidecar_field(view.name)]
        self._columns = _RowDecoder(view, exact=detailed)

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
            observations = _parse(sidecar, StoredObservations)
            if observations is None:
                continue
            places, too_old = observations.find(times_ms[rows], ttl_ms=0)  # whoever is hidden has an age, too
            beyond[rows] |= too_old
            numbers: dict[int, int] = {}  # only the observations that some row needs are decoded, each once
            for row, place in zip(rows.tolist(), places.tolist(), strict=True):
                if place < 0:
                    continue
                if place not in numbers:
                    numbers[place] = len(found)
                    found.append(feast_layout.split_row(observations.row(place)))
                newest_ms[row] = observations.times_ms[place]
                index[row] = numbers[place]
        return self._columns.decode(found, index)


_ViewReader = _BatchReader | _WindowedReader | _LatestReader
_READERS: Mapping[Kind, Callable[[View, bool], _ViewReader]] = {
    Kind.BATCH: _BatchReader,
    Kind.WINDOWED: _WindowedReader,
    Kind.LATEST: _LatestReader,
}
