"""Reading the online store: every row of a slice at its own event time, in one round trip.

An application without an event loop needs three lines; with one, `OnlineReader` is awaited instead::

    from services.online_store import BlockingReader
    from services.settings import Settings

    reader = BlockingReader.connect(Settings(), "arrival_delay")   # fast: imports no Feast
    reader.service.feature_names   # ("origin_delay_mean_1h", ...), the FeatureService's projection order
    reader.service.join_keys       # ("origin", "carrier", "dest", "tailnum"): the columns that `read` needs
    rows = reader.read({"origin": [...], "carrier": [...], ...}, event_times_ms)   # without times: as of now
    rows.columns["origin_delay_mean_1h"]   # float64 (n,), nan = missing; strings: object, None
    rows.lag_ms                            # int64 (n,), -1 = a view never reported

As scoring does it, which first waits until the features are complete::

    async with OnlineReader.connect(settings, plan.service("arrival_delay")) as reader:
        passed = await reader.wait_for(event_time_ms, timeout_seconds=60)   # all stream views, bounded
        rows = await reader.read(entity_columns, event_times_ms)

Batch views are decoded from Feast's own bytes. Stream views are computed from the sidecar, at each
row's event time: a value never holds an event later than that, however far ahead the features are.

The age of a value is the row's event time less the time of the entity's newest event not later than it
(of a batch view: the time of Feast's row). Where it exceeds the view's ttl, and where the entity has no
event by then, every feature of the view is missing, as in Feast's point-in-time join; a count, too::

    rows.views["origin_departures"].ages_ms                # int64 (n,), -1 = not found
    rows.statuses("origin_delay_mean_1h", view="origin_departures")   # uint8 (n,) of `Status`
"""

import dataclasses
import enum
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt

from services import feast_layout, feature_plan, watermarks
from services.feature_plan import Column, Kind, ServicePlan, ValueType, View
from services.redis_pipeline import AsyncPipeline, BlockingPipeline
from services.settings import Settings
from services.window_values import WindowValues
from streams import windows
from streams.observations import StoredObservations
from streams.partials import StateError

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Statuses = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[Any]
Raw = bytes | None
Parsed = TypeVar("Parsed")

_NULL_DOUBLE = feast_layout.encode_value(ValueType.DOUBLE, float("nan"))
_NO_TIMES = np.empty(0, dtype=np.int64)


class Status(enum.IntEnum):
    """What stands behind a served value, numbered as in Feast's ``FieldStatus``."""

    PRESENT = 1
    NULL_VALUE = 2
    """The newest event, or the window, gives no value."""
    NOT_FOUND = 3
    """The entity has no event by the row's event time, or none that is still kept."""
    OUTSIDE_MAX_AGE = 4
    """The newest event is older than the view's ttl."""


@dataclasses.dataclass(frozen=True)
class ServedView:
    """How old one view's values are in n rows; nothing is computed before it is asked for."""

    times_ms: Int64s
    """(n,): the event times at which the rows were asked for."""
    newest_ms: Int64s
    """(n,): the event time of what was served, `watermarks.NEVER` where nothing was found."""
    ttl_ms: int
    """0: for ever."""

    @cached_property
    def found(self) -> Bools:
        """(n,): whether the entity has a row."""
        found: Bools = self.newest_ms != watermarks.NEVER
        return found

    @cached_property
    def ages_ms(self) -> Int64s:
        """(n,): the age at the row's event time; 0 for a batch row that is newer; -1 where none was found."""
        return np.where(self.found, np.maximum(self.times_ms - self.newest_ms, 0), -1)

    @cached_property
    def hidden(self) -> Bools:
        """(n,): whether all features are missing, because of no row or too old a one."""
        return ~self.found | (self.ages_ms > self.ttl_ms) if self.ttl_ms else ~self.found

    def statuses(self, column: AnyArray) -> Statuses:
        """Return (n,) `Status` numbers of one feature, given its values (n,)."""
        missing = column == None if column.dtype == object else np.isnan(column)  # noqa: E711  # by element
        seen = np.where(self.found, Status.OUTSIDE_MAX_AGE, Status.NOT_FOUND)
        present = np.where(missing, Status.NULL_VALUE, Status.PRESENT)
        return np.where(self.hidden, seen, present).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class ServedFeatures:
    """The features of n rows."""

    columns: Mapping[str, AnyArray]
    """By feature name, in the service's order; each (n,): float64 with nan, strings as object with None."""
    lag_ms: Int64s
    """(n,): by how much the slowest stream view's watermark was behind the row's event time; 0 when it had
    passed; -1 when some view has never reported."""
    beyond_retention: int
    """How many rows asked for a time so old that some view has already let go of it: served as missing."""
    watermarks_ms: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    """By stream view: up to where it is complete; None as long as some partition has not reported."""
    views: Mapping[str, ServedView] = dataclasses.field(default_factory=dict)
    """By name; batch views without a ttl only where the reader is ``detailed``."""

    def statuses(self, column: str, view: str) -> Statuses:
        """Return the (n,) `Status` numbers of one of the view's columns; KeyError if there is none."""
        return self.views[view].statuses(self.columns[column])


class OnlineReader:
    """Serves one FeatureService at each row's own event time."""

    def __init__(self, service: ServicePlan, pipeline: AsyncPipeline, *, detailed: bool = False) -> None:
        """Read through this pipeline, which readers may share; see `connect`.

        ``detailed`` is what an answer to a client needs: ages of all views, and columns named
        ``view__feature`` whose values are exact (objects, None for null), except for windows' floats.
        """
        self.service = service
        self._pipeline = pipeline
        self._reading = _ServiceReading(service, detailed=detailed)
        self._passed_ms = watermarks.NEVER

    @classmethod
    def connect(cls, settings: Settings, service: ServicePlan | str) -> Self:
        """Make a reader of a FeatureService, or of the one of this name, with a connection of its own.

        Raises `PlanError` where the applied repository has no service of the name.
        """
        return cls(_service(settings, service), AsyncPipeline.connect(settings))

    async def __aenter__(self) -> Self:
        """Return itself; the first read connects."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._pipeline.close()

    async def read(
        self, entity_columns: Mapping[str, Sequence[Any]], event_times_ms: Int64s | None = None
    ) -> ServedFeatures:
        """Return the features of n rows, each at its own event time, or of all now.

        A null in an entity column makes that row's features missing.

        Raises `redis.RedisError` when the store cannot be reached; KeyError for a missing entity column.
        """
        times_ms = _now_ms(entity_columns) if event_times_ms is None else event_times_ms
        question = self._reading.ask(entity_columns, times_ms)
        replies = await self._pipeline.exchange(*question.batches)
        served = self._reading.answer(question, replies)
        if served.watermarks_ms and None not in served.watermarks_ms.values():
            self._passed_ms = max(self._passed_ms, min(cast("Iterable[int]", served.watermarks_ms.values())))
        return served

    async def wait_for(self, event_time_ms: int, timeout_seconds: float) -> bool:
        """Wait until all stream views' watermarks have passed this event time; tell whether they have."""
        if event_time_ms <= self._passed_ms:
            return True  # watermarks only rise
        passed = await watermarks.wait_for(
            self._pipeline.client, self.service.stream_views, event_time_ms, timeout_seconds
        )
        if passed:
            self._passed_ms = max(self._passed_ms, event_time_ms)
        return passed


class BlockingReader:
    """The same for code without an event loop; threads may share it. The quickest way to read one row."""

    def __init__(self, service: ServicePlan, pipeline: BlockingPipeline, *, detailed: bool = False) -> None:
        """Read through this pipeline, which readers may share; see `connect` and `OnlineReader`."""
        self.service = service
        self._pipeline = pipeline
        self._reading = _ServiceReading(service, detailed=detailed)

    @classmethod
    def connect(cls, settings: Settings, service: ServicePlan | str) -> Self:
        """Make a reader of a FeatureService, or of the one of this name, with a connection of its own.

        Raises `PlanError` where the applied repository has no service of the name.
        """
        return cls(_service(settings, service), BlockingPipeline.connect(settings))

    def __enter__(self) -> Self:
        """Return itself; the first read connects."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pipeline.close()

    def read(
        self, entity_columns: Mapping[str, Sequence[Any]], event_times_ms: Int64s | None = None
    ) -> ServedFeatures:
        """Return the features of n rows, as `OnlineReader.read` does."""
        times_ms = _now_ms(entity_columns) if event_times_ms is None else event_times_ms
        question = self._reading.ask(entity_columns, times_ms)
        return self._reading.answer(question, self._pipeline.exchange(*question.batches))


def _service(settings: Settings, service: ServicePlan | str) -> ServicePlan:
    return feature_plan.load(settings).service(service) if isinstance(service, str) else service


def _now_ms(entity_columns: Mapping[str, Sequence[Any]]) -> Int64s:
    rows = max(map(len, entity_columns.values()), default=0)
    return np.full(rows, time.time_ns() // 1_000_000)


@dataclasses.dataclass(frozen=True)
class _Question:
    """Commands for the store, and what they ask for."""

    batches: tuple[list[bytes], list[bytes]]
    """The watermarks, and behind them the rows: what those promise is in these."""
    entities: "list[_Entities]"
    """By group of views."""
    times_ms: Int64s


class _ServiceReading:
    """What is asked of the store for one FeatureService, and how the replies are read; no I/O."""

    def __init__(self, service: ServicePlan, *, detailed: bool) -> None:
        self._stream_views = service.stream_views
        self._groups = [
            _Group(service.project, views, detailed=detailed) for views in _by_join_keys(service.views)
        ]
        self._references = {
            f"{reference.view}__{reference.feature}" if detailed else reference.feature: (
                reference.view,
                reference.feature,
            )
            for reference in service.references
        }
        self._watermark_commands = [
            _command(b"HGETALL", watermarks.key(name).encode()) for name in self._stream_views
        ]

    def ask(self, entity_columns: Mapping[str, Sequence[Any]], times_ms: Int64s) -> _Question:
        """Encode n rows; KeyError for a missing entity column."""
        entities = [group.ask(entity_columns) for group in self._groups]
        rows = list(itertools.chain.from_iterable(asked.commands for asked in entities))
        return _Question((self._watermark_commands, rows), entities, times_ms)

    def answer(self, question: _Question, replies: Sequence[Any]) -> ServedFeatures:
        """Decode the replies, one to each command, in order."""
        read = len(self._stream_views)
        marks = [
            watermarks.least(dict(zip(pairs[::2], pairs[1::2], strict=True))) for pairs in replies[:read]
        ]
        served: dict[tuple[str, str], AnyArray] = {}
        views: dict[str, ServedView] = {}
        beyond = np.zeros(len(question.times_ms), dtype=np.bool_)
        for group, entities in zip(self._groups, question.entities, strict=True):
            rows = replies[read : read + entities.size]
            read += entities.size
            group.serve(rows, entities, question.times_ms, beyond, served, views)
        return ServedFeatures(
            columns={name: served[place] for name, place in self._references.items()},
            lag_ms=_lag_ms(marks, question.times_ms),
            beyond_retention=int(np.count_nonzero(beyond)),
            watermarks_ms=dict(zip(self._stream_views, marks, strict=True)),
            views=views,
        )


def _lag_ms(marks: Sequence[int | None], times_ms: Int64s) -> Int64s:
    known = [mark for mark in marks if mark is not None]
    if len(known) < len(marks):
        return np.full(len(times_ms), -1, dtype=np.int64)
    return np.maximum(times_ms - min(known), 0) if known else np.zeros(len(times_ms), dtype=np.int64)


def _by_join_keys(views: Sequence[View]) -> list[list[View]]:
    """Group views by entity: they share one hash for each."""
    groups: dict[tuple[Column, ...], list[View]] = {}
    for view in views:
        groups.setdefault(view.join_keys, []).append(view)
    return list(groups.values())


def _command(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + _arguments(parts)


def _arguments(parts: Sequence[bytes]) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


@dataclasses.dataclass(frozen=True)
class _Entities:
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


class _Group:
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

    def ask(self, entity_columns: Mapping[str, Sequence[Any]]) -> _Entities:
        columns = [entity_columns[name] for name in self._names]
        index: dict[tuple[Any, ...], int] = {}
        inverse = [
            -1 if None in values else index.setdefault(values, len(index))
            for values in zip(*columns, strict=True)
        ]
        commands = [
            b"%b$%d\r\n%b\r\n%b" % (self._head, len(key), key, self._tail) for key in map(self._key_of, index)
        ]
        return _Entities(commands, np.array(inverse, dtype=np.int64))

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: _Entities,
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
        entities: _Entities,
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
        self._values = WindowValues(view)
        self._parse = functools.partial(windows.StoredTiles, self._values.layout)

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: _Entities,
        times_ms: Int64s,
        beyond: Bools,
        newest_ms: Int64s,
    ) -> list[AnyArray]:
        served = self._values.missing(len(times_ms))
        for (sidecar,), rows in zip(replies, entities.rows, strict=True):
            tiles = _parse(sidecar, self._parse)
            if tiles is None:
                continue
            values, too_old = tiles.values(times_ms[rows])
            beyond[rows] |= too_old
            newest_ms[rows] = tiles.newest_ms(times_ms[rows])
            for column, part in zip(served, values, strict=True):
                column[rows] = part
        return self._values.fit(served)


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
        entities: _Entities,
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
