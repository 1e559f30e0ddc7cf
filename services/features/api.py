"""``POST /get-online-features``, in the request and response form of Feast's feature server.

    {"feature_service": "arrival_delay", "entities": {"origin": ["JFK"], "carrier": ["UA"], ...}}
    {"features": ["origin_departures:origin_delay_mean_1h"], "entities": {"origin": ["JFK"]}}

A Feast client whose online store is ``{type: remote, path: http://...}`` reads from here. The request has one
field more than Feast's: ``event_time`` (RFC 3339), at which stream views are evaluated; default: now. The
response adds ``ages_ms``, the age of each feature's values at that time (null if none was found), and in
``metadata`` the ``watermarks_ms`` of the stream views: the event time up to which each is complete.

Errors: 400 an invalid body, with the field; 401 no valid token, if tokens are configured; 404 an unknown
service, view or feature; 413 too many rows or bytes; 503 the online store is unreachable; 500 a defect, with
a reference to the log and no internals.
"""

import base64
import contextlib
import datetime as dt
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import redis.exceptions
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from services.feature_store import window_values
from services.feature_store.online_reader import OnlineReader
from services.feature_store.plan import FeaturePlan, PlanError, ServiceFeature, ServicePlan, ValueType
from services.feature_store.served_features import ServedFeatures, ServedView, Status
from services.runtime import times
from services.runtime.redis_pipeline import AsyncPipeline
from services.runtime.settings import Settings
from services.runtime.web import server
from streams import codec
from streams.json_decoder import InvalidRecordError, JsonDecoder
from streams.outages import is_outage

ROWS_MAX = 10_000
"""Maximum rows per request."""
BODY_BYTES_MAX = 4 << 20
"""Maximum body size, as for scoring: ten thousand rows with a few hundred bytes of keys each."""
READERS_MAX = 64
"""Maximum compiled feature selections in the cache; clients choose them, so their number is bounded."""
_EPOCH = "1970-01-01T00:00:00Z"
_STATUS_NAMES = ["", *(status.name for status in Status)]
_KEY_BITS = {ValueType.INT32: 31, ValueType.INT64: 63}


class OnlineFeaturesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The request body."""

    entities: dict[str, list[str | int | None]]
    feature_service: str | None = None
    features: list[str] | None = None
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False
    event_time: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None


class OnlineFeatures:
    """Serves features over HTTP through the same reader as scoring."""

    def __init__(
        self, settings: Settings, plan: FeaturePlan, now_ms: Callable[[], int] = times.now_ms
    ) -> None:
        """Prepare; the first request connects."""
        self._plan = plan
        self._now_ms = now_ms
        self._pipeline = AsyncPipeline.connect(settings)
        self._readers: dict[tuple[ServiceFeature, ...], OnlineReader] = {}

    def routes(self) -> list[BaseRoute]:
        return [Route("/get-online-features", server.handle_errors(self._answer), methods=["POST"])]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close the connections when the block ends."""
        try:
            yield
        finally:
            await self._pipeline.close()

    async def _answer(self, http: Request) -> Response:
        request = _parse(await server.read_body(http, BODY_BYTES_MAX))
        service = self._select(request)
        rows = _check_entities(request, service)
        time_ms = self._now_ms() if request.event_time is None else _time_ms(request.event_time)
        try:
            served = await self._reader(service).read(request.entities, np.full(rows, time_ms))
        except (redis.exceptions.RedisError, OSError) as error:
            if not is_outage(error):
                raise
            raise server.RequestError(
                503, "the online store cannot be reached", {"Retry-After": "1"}
            ) from error
        body = msgspec.json.encode(_response(request, service, served))
        return Response(body, media_type="application/json")

    def _select(self, request: OnlineFeaturesRequest) -> ServicePlan:
        if (request.feature_service is None) == (not request.features):
            raise server.RequestError(400, "give either feature_service or features")
        try:
            if request.feature_service is not None:
                return self._plan.service(request.feature_service)
            references = [_reference(name) for name in request.features or []]
            return self._plan.select("request", tuple(dict.fromkeys(references)))
        except PlanError as error:
            raise server.RequestError(404, str(error)) from error

    def _reader(self, service: ServicePlan) -> OnlineReader:
        reader = self._readers.get(service.references)
        if reader is None:
            if len(self._readers) >= READERS_MAX:
                self._readers.clear()
            reader = OnlineReader(service, self._pipeline, detailed=True)
            self._readers[service.references] = reader
        return reader


_REQUESTS: JsonDecoder[OnlineFeaturesRequest] = JsonDecoder(OnlineFeaturesRequest)


def _parse(raw: bytes) -> OnlineFeaturesRequest:
    try:
        return _REQUESTS.decode(raw)
    except InvalidRecordError as error:
        raise server.RequestError(400, str(error)) from error


def _time_ms(moment: dt.datetime) -> int:
    try:
        return codec.epoch_ms(moment)
    except InvalidRecordError as error:
        raise server.RequestError(400, f"event_time: {error}") from error


def _reference(name: str) -> ServiceFeature:
    view, colon, feature = name.partition(":")
    if not colon:
        raise server.RequestError(400, f"features: {name!r} must be written as view:feature")
    return ServiceFeature(view, feature)


def _check_entities(request: OnlineFeaturesRequest, service: ServicePlan) -> int:
    """Validate the entities; return the number of rows."""
    missing = [name for name in service.join_keys if name not in request.entities]
    if missing:
        raise server.RequestError(400, f"entities: missing {', '.join(missing)}")
    sizes = {name: len(request.entities[name]) for name in service.join_keys}
    if len(set(sizes.values())) > 1:
        raise server.RequestError(400, f"entities: columns differ in length: {sizes}")
    rows = next(iter(sizes.values()), 0)
    if rows > ROWS_MAX:
        raise server.RequestError(413, f"entities: {rows} rows, at most {ROWS_MAX} at once")
    types = {key.name: key.type for view in service.views for key in view.join_keys}
    for name, kind in types.items():
        for row, value in enumerate(request.entities[name]):
            if value is not None and not _fits(value, kind):
                raise server.RequestError(400, f"entities: {name}[{row}] is {value!r}, expected {kind}")
    return rows


def _fits(value: str | int, kind: ValueType) -> bool:
    if isinstance(value, str):
        return kind is ValueType.STRING
    bits = _KEY_BITS.get(kind, 0)
    return -(1 << bits) <= value < 1 << bits and bits > 0


def _response(request: OnlineFeaturesRequest, service: ServicePlan, served: ServedFeatures) -> dict[str, Any]:
    row_times = {name: _row_times(view) for name, view in served.views.items()}
    types = {(view.name, column.name): column.type for view in service.views for column in view.features}
    names, results = list(service.join_keys), [_entity_result(request.entities[n]) for n in service.join_keys]
    for reference in service.references:
        full_name = f"{reference.view}__{reference.feature}"
        names.append(full_name if request.full_feature_names else reference.feature)
        statuses = served.statuses(full_name, reference.view)
        results.append(
            {
                "values": _values(served.columns[full_name], types[reference.view, reference.feature]),
                "statuses": [_STATUS_NAMES[status] for status in statuses.tolist()],
                **row_times[reference.view],
            }
        )
    metadata: dict[str, Any] = {
        "feature_names": names,
        "watermarks_ms": served.watermarks_ms,
    }
    if request.include_feature_view_version_metadata:
        metadata["feature_view_metadata"] = [{"name": view.name, "version": 0} for view in service.views]
    return {"metadata": metadata, "results": results}


def _entity_result(values: Sequence[Any]) -> dict[str, Any]:
    return {
        "values": list(values),
        "statuses": ["PRESENT"] * len(values),
        "event_timestamps": [_EPOCH] * len(values),
    }


def _row_times(view: ServedView) -> Mapping[str, Any]:
    """Return event times and ages by row; they are the same for all features of a view."""
    known = {int(time_ms): _rfc3339(int(time_ms)) for time_ms in np.unique(view.newest_ms[view.found])}
    return {
        "event_timestamps": [known.get(time_ms, _EPOCH) for time_ms in view.newest_ms.tolist()],
        "ages_ms": [None if age_ms < 0 else age_ms for age_ms in view.ages_ms.tolist()],
    }


def _values(column: Any, kind: ValueType) -> list[Any]:
    """Return values in the JSON form of Feast's server."""
    if column.dtype != object:  # a window, in which nan means null
        values: list[Any] = [window_values.fitted(kind, value) for value in column.tolist()]
    else:
        values = column.tolist()
    write = _JSON_FORMS.get(kind)
    if write is None:
        return values
    return [
        None
        if value is None
        else [write(item) for item in value]
        if isinstance(value, list)
        else write(value)
        for value in values
    ]


def _float(value: float) -> float | str:
    """Return a number, or the name that protobuf uses for a number that JSON cannot hold."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


_JSON_FORMS: Mapping[ValueType, Callable[[Any], Any]] = {
    ValueType.FLOAT: _float,
    ValueType.DOUBLE: _float,
    ValueType.FLOAT_LIST: _float,
    ValueType.DOUBLE_LIST: _float,
    ValueType.BYTES: _base64,
    ValueType.BYTES_LIST: _base64,
}


def _rfc3339(time_ms: int) -> str:
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds").replace("+00:00", "Z")
