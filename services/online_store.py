"""Reading the online store: every row of a slice at its own event time, in one round trip.

As scoring does it::

    from services import feature_plan, online_store

    service = feature_plan.load(settings).service("arrival_delay")   # fast: imports no Feast
    service.feature_names      # ("origin_delay_mean_1h", ...), the FeatureService's projection order
    service.join_keys          # ("origin", "carrier", "dest", "tailnum"): the columns that `read` needs
    async with online_store.OnlineReader.connect(settings, service) as reader:
        passed = await reader.wait_for(event_time_ms, timeout_seconds=60)   # all stream views, bounded
        rows = await reader.read({"origin": [...], "carrier": [...], ...}, event_times_ms)
        rows.columns["origin_delay_mean_1h"]   # float64 (n,), nan = missing; strings: object, None
        rows.lag_ms                            # int64 (n,), -1 = a view never reported

Batch views are decoded from Feast's own bytes. Stream views are computed from the sidecar, at each
row's event time: a value never holds an event later than that, however far ahead the features are.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from services import feast_layout, watermarks
from services.feature_plan import Column, Kind, ServicePlan, ValueType, View
from services.settings import Settings
from streams import windows
from streams.observations import StoredObservations

Int64s = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]
Raw = bytes | None

_NULL_DOUBLE = feast_layout.encode_value(ValueType.DOUBLE, float("nan"))
_DOUBLE = np.dtype([("tag", "u1"), ("value", "<f8")])


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


class OnlineReader:
    """Serves one FeatureService at each row's own event time."""

    def __init__(self, service: ServicePlan, client: Any) -> None:
        """Read through this `redis.asyncio.Redis`, made with ``protocol=2``; see `connect`."""
        self.service = service
        self._client = client
        self._groups = [_Group(service.project, views) for views in _by_join_keys(service.views)]
        self._watermark_commands = b"".join(
            _command(b"HGETALL", watermarks.key(name).encode()) for name in service.stream_views
        )
        self._passed_ms = watermarks.NEVER

    @classmethod
    def connect(cls, settings: Settings, service: ServicePlan) -> Self:
        """Make a reader with connections of its own."""
        import redis.asyncio

        return cls(service, redis.asyncio.Redis.from_url(settings.redis_url, protocol=2))

    async def __aenter__(self) -> Self:
        """Return itself; the first read connects."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def read(
        self, entity_columns: Mapping[str, Sequence[Any]], event_times_ms: Int64s
    ) -> ServedFeatures:
        """Return the features of n rows. A null in an entity column makes that row's features missing.

        Raises `redis.RedisError` when the store cannot be reached; KeyError for a missing entity column.
        """
        asked = [group.ask(entity_columns) for group in self._groups]
        # The watermarks come first in the pipeline: what they promise is in the rows that follow.
        replies = iter(
            await self._exchange(
                [self._watermark_commands, *(entities.commands for entities in asked)], asked
            )
        )
        lag_ms = self._lag(list(itertools.islice(replies, len(self.service.stream_views))), event_times_ms)
        served: dict[tuple[str, str], AnyArray] = {}
        beyond = np.zeros(len(event_times_ms), dtype=np.bool_)
        for group, entities in zip(self._groups, asked, strict=True):
            rows = list(itertools.islice(replies, entities.size))
            served |= group.serve(rows, entities, event_times_ms, beyond)
        columns = {
            reference.feature: served[reference.view, reference.feature]
            for reference in self.service.references
        }
        return ServedFeatures(columns, lag_ms, int(beyond.sum()))

    async def wait_for(self, event_time_ms: int, timeout_seconds: float) -> bool:
        """Wait until all stream views' watermarks have passed this event time; tell whether they have."""
        if event_time_ms <= self._passed_ms:
            return True  # watermarks only rise
        passed = await watermarks.wait_for(
            self._client, self.service.stream_views, event_time_ms, timeout_seconds
        )
        if passed:
            self._passed_ms = max(self._passed_ms, event_time_ms)
        return passed

    async def _exchange(self, commands: list[bytes], asked: Sequence["_Entities"]) -> list[Any]:
        """Send all commands and read all replies over one connection, without redis-py's cost for each."""
        expected = len(self.service.stream_views) + sum(entities.size for entities in asked)
        connection = await self._client.connection_pool.get_connection()
        try:
            await connection.send_packed_command(commands)
            return [await connection.read_response(disable_decoding=True) for _ in range(expected)]
        except BaseException:
            await connection.disconnect(
                nowait=True
            )  # replies that are still to come must not meet the next reader
            raise
        finally:
            await self._client.connection_pool.release(connection)

    def _lag(self, hashes: Sequence[Sequence[bytes]], event_times_ms: Int64s) -> Int64s:
        found = [watermarks.least(dict(zip(pairs[::2], pairs[1::2], strict=True))) for pairs in hashes]
        known = [watermark for watermark in found if watermark is not None]
        if len(known) < len(found):
            return np.full(len(event_times_ms), -1, dtype=np.int64)
        if not known:
            return np.zeros(len(event_times_ms), dtype=np.int64)
        self._passed_ms = max(self._passed_ms, min(known))
        return np.maximum(event_times_ms - min(known), 0)


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

    commands: bytes
    size: int
    inverse: Int64s
    """(n,): the entity of each row, -1 for none."""

    @cached_property
    def rows(self) -> list[Int64s]:
        """For each entity the indexes of its rows."""
        order = np.argsort(self.inverse, kind="stable")
        limits = np.searchsorted(self.inverse[order], np.arange(self.size + 1))
        return [order[limits[entity] : limits[entity + 1]] for entity in range(self.size)]


class _Group:
    """The views of one entity: what to ask of its hash, and how to read the answer."""

    def __init__(self, project: str, views: Sequence[View]) -> None:
        self._names = [key.name for key in views[0].join_keys]
        self._key_of = feast_layout.entity_key_encoder(project, views[0].join_keys)
        self._views: list[tuple[_ViewReader, slice]] = []
        fields: list[bytes] = []
        for view in views:
            reader = _READERS[view.kind](view)
            self._views.append((reader, slice(len(fields), len(fields) + len(reader.fields))))
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
        commands = b"".join(
            b"%b$%d\r\n%b\r\n%b" % (self._head, len(key), key, self._tail) for key in map(self._key_of, index)
        )
        return _Entities(commands, len(index), np.array(inverse, dtype=np.int64))

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: _Entities,
        times_ms: Int64s,
        beyond: npt.NDArray[np.bool_],
    ) -> dict[tuple[str, str], AnyArray]:
        served: dict[tuple[str, str], AnyArray] = {}
        for reader, fields in self._views:
            columns = reader.serve([reply[fields] for reply in replies], entities, times_ms, beyond)
            served |= {
                (reader.view.name, feature.name): column
                for feature, column in zip(reader.view.features, columns, strict=True)
            }
        return served


class _BatchReader:
    """Decodes what Feast has written: the same at every event time."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.fields = [feast_layout.feature_field(view.name, name) for name in view.feature_names]
        self._all_doubles = all(feature.type is ValueType.DOUBLE for feature in view.features)

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: _Entities,
        times_ms: Int64s,
        beyond: npt.NDArray[np.bool_],
    ) -> list[AnyArray]:
        del times_ms, beyond
        doubles = _decode_doubles(replies, len(self.fields)) if self._all_doubles else None
        if doubles is not None:
            return [_take(doubles[:, index], entities.inverse) for index in range(len(self.fields))]
        columns = list(zip(*replies, strict=True)) or [()] * len(self.fields)
        return [
            _take(_decode_column(feature.type, column), entities.inverse)
            for feature, column in zip(self.view.features, columns, strict=True)
        ]


def _decode_doubles(replies: Sequence[Sequence[Raw]], width: int) -> npt.NDArray[np.float64] | None:
    """Decode (n, width) doubles at once; None if some value is not of that type."""
    joined = b"".join([raw or _NULL_DOUBLE for raw in itertools.chain.from_iterable(replies)])
    if len(joined) != feast_layout.DOUBLE_BYTES * len(replies) * width:
        return None
    values = np.frombuffer(joined, dtype=_DOUBLE).reshape(len(replies), width)
    if not (values["tag"] == feast_layout.DOUBLE_TAG).all():
        return None
    return np.ascontiguousarray(values["value"])


def _decode_column(kind: ValueType, raws: Sequence[Raw]) -> AnyArray:
    values = [feast_layout.decode_value(raw) for raw in raws]
    if kind is ValueType.STRING:
        return np.array(values, dtype=object)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _take(by_entity: AnyArray, inverse: Int64s) -> AnyArray:
    """Spread (entities,) over (n,) rows; a row of no entity is missing."""
    missing = None if by_entity.dtype == object else np.nan
    return np.append(by_entity, np.array([missing], dtype=by_entity.dtype))[inverse]


class _WindowedReader:
    """Evaluates tiles at each row's event time."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.fields = [feast_layout.sidecar_field(view.name)]
        self._layout = windows.Layout(view.aggregations, view.hop_ms)

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: _Entities,
        times_ms: Int64s,
        beyond: npt.NDArray[np.bool_],
    ) -> list[AnyArray]:
        served: list[AnyArray] = list(windows.empty_values(self._layout, len(times_ms)))
        for column in served:
            column[entities.inverse < 0] = np.nan  # of no entity, not of an entity without events
        for (sidecar,), rows in zip(replies, entities.rows, strict=True):
            if sidecar is None:
                continue
            tiles = windows.StoredTiles(self._layout, feast_layout.sidecar_state(sidecar))
            values, too_old = tiles.values(times_ms[rows])
            beyond[rows] |= too_old
            for column, part in zip(served, values, strict=True):
                column[rows] = part
        return served


class _LatestReader:
    """Finds the newest observation at each row's event time."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.fields = [feast_layout.sidecar_field(view.name)]

    def serve(
        self,
        replies: Sequence[Sequence[Raw]],
        entities: _Entities,
        times_ms: Int64s,
        beyond: npt.NDArray[np.bool_],
    ) -> list[AnyArray]:
        found: list[list[bytes]] = []
        index = np.full(len(times_ms), -1, dtype=np.int64)
        for (sidecar,), rows in zip(replies, entities.rows, strict=True):
            if sidecar is None:
                continue
            observations = StoredObservations(feast_layout.sidecar_state(sidecar))
            places, too_old = observations.find(times_ms[rows], self.view.ttl_ms)
            beyond[rows] |= too_old
            distinct, inverse = np.unique(places, return_inverse=True)
            # Only the observations that some row needs are decoded; -1 stays the one that is missing.
            numbers = np.where(distinct < 0, -1, len(found) + np.cumsum(distinct >= 0) - 1)
            found += [
                feast_layout.split_row(observations.row(int(place))) for place in distinct if place >= 0
            ]
            index[rows] = numbers[inverse]
        columns = list(zip(*found, strict=True)) or [()] * len(self.view.features)
        return [
            _take(_decode_column(feature.type, column), index)
            for feature, column in zip(self.view.features, columns, strict=True)
        ]


_ViewReader = _BatchReader | _WindowedReader | _LatestReader
_READERS: Mapping[Kind, Callable[[View], _ViewReader]] = {
    Kind.BATCH: _BatchReader,
    Kind.WINDOWED: _WindowedReader,
    Kind.LATEST: _LatestReader,
}
