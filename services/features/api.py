"""``POST /get-online-features``, in the request and response form of Feast's feature server.

    {"feature_service": "arrival_delay", "entities": {"origin": ["JFK"], "carrier": ["UA"], ...}}
    {"features": ["origin_departures:origin_delay_mean_1h"], "entities": {"origin": ["JFK"]}}

One field more than Feast's: ``event_time`` (RFC 3339), at which stream views are evaluated; now by default.
"""

import contextlib
import datetime as dt
import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import redis.asyncio
import redis.exceptions
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from services import feast_layout
from services.feature_plan import FeaturePlan, PlanError, Reference, ServicePlan
from services.online_store import OnlineReader
from services.settings import Settings
from streams import codec

ROWS_MAX = 10_000
READERS_MAX = 64
"""Compiled selections of features kept; their number is the clients', so it is bounded."""


class OnlineFeaturesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    entities: dict[str, list[str | int | None]]
    feature_service: str | None = None
    features: list[str] | None = None
    full_feature_names: bool = False
    event_time: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None


class BadRequestError(ValueError):
    """The body cannot be answered; the message names the field."""


class OnlineFeatures:
    """Answers over HTTP through the same reader as scoring."""

    def __init__(self, settings: Settings, plan: FeaturePlan) -> None:
        """Prepare; the first request connects."""
        self._plan = plan
        self._client: Any = redis.asyncio.Redis.from_url(settings.redis_url, protocol=2)
        self._readers: dict[tuple[Reference, ...], OnlineReader] = {}

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [Route("/get-online-features", self._answer, methods=["POST"])]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close the connections when the block ends."""
        try:
            yield
        finally:
            await self._client.aclose()

    async def _answer(self, http: Request) -> Response:
        try:
            request = msgspec.json.decode(await http.body(), type=OnlineFeaturesRequest)
            service = self._select(request)
            rows = _check_entities(request, service)
            return JSONResponse(await self._serve(request, service, rows))
        except PlanError as error:
            return JSONResponse({"error": str(error)}, status_code=404)
        except (msgspec.DecodeError, BadRequestError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except (redis.exceptions.RedisError, OSError):
            return JSONResponse({"error": "the online store cannot be reached"}, status_code=503)

    def _select(self, request: OnlineFeaturesRequest) -> ServicePlan:
        if (request.feature_service is None) == (request.features is None):
            raise BadRequestError("give either feature_service or features")
        if request.feature_service is not None:
            return self._plan.service(request.feature_service)
        references = []
        for name in request.features or []:
            view, colon, feature = name.partition(":")
            if not colon:
                raise BadRequestError(f"features: {name!r} must be written as view:feature")
            references.append(Reference(view, feature))
        return self._plan.select("request", tuple(dict.fromkeys(references)))

    async def _serve(self, request: OnlineFeaturesRequest, service: ServicePlan, rows: int) -> dict[str, Any]:
        time_ms = codec.epoch_ms(request.event_time) if request.event_time else time.time_ns() // 1_000_000
        columns = [
            await self._reader(one).read(request.entities, np.full(rows, time_ms))
            for one in _by_view(service)  # one view at a time: names may repeat across views
        ]
        timestamps = await self._timestamps(request, service, rows)
        results = [_entity_result(request.entities[name]) for name in service.join_keys]
        for reference, served in zip(service.references, _in_order(service, columns), strict=True):
            results.append(_feature_result(served, timestamps[reference.view]))
        names = [
            f"{r.view}__{r.feature}" if request.full_feature_names else r.feature for r in service.references
        ]
        return {"metadata": {"feature_names": [*service.join_keys, *names]}, "results": results}

    def _reader(self, service: ServicePlan) -> OnlineReader:
        reader = self._readers.get(service.references)
        if reader is None:
            if len(self._readers) >= READERS_MAX:
                self._readers.clear()
            reader = self._readers[service.references] = OnlineReader(service, self._client)
        return reader

    async def _timestamps(
        self, request: OnlineFeaturesRequest, service: ServicePlan, rows: int
    ) -> dict[str, list[int | None]]:
        """Read the event time of each row of each view."""
        async with self._client.pipeline(transaction=False) as pipe:
            for view in service.views:
                encode = feast_layout.entity_key_encoder(service.project, view.join_keys)
                columns = [request.entities[key.name] for key in view.join_keys]
                for entity in zip(*columns, strict=True):
                    # A row without an entity has no key; the empty one holds nothing.
                    pipe.hget(
                        b"" if None in entity else encode(entity), feast_layout.timestamp_field(view.name)
                    )
            found = [feast_layout.decode_timestamp(raw) for raw in await pipe.execute()]
        return {view.name: found[i * rows : (i + 1) * rows] for i, view in enumerate(service.views)}


def _by_view(service: ServicePlan) -> list[ServicePlan]:
    return [
        ServicePlan(
            view.name, service.project, tuple(r for r in service.references if r.view == view.name), (view,)
        )
        for view in service.views
    ]


def _in_order(service: ServicePlan, served: Sequence[Any]) -> list[Any]:
    by_view = {view.name: answer.columns for view, answer in zip(service.views, served, strict=True)}
    return [by_view[reference.view][reference.feature] for reference in service.references]


def _check_entities(request: OnlineFeaturesRequest, service: ServicePlan) -> int:
    """Return the number of rows."""
    missing = [name for name in service.join_keys if name not in request.entities]
    if missing:
        raise BadRequestError(f"entities: missing {', '.join(missing)}")
    sizes = {name: len(request.entities[name]) for name in service.join_keys}
    if len(set(sizes.values())) > 1:
        raise BadRequestError(f"entities: columns differ in length: {sizes}")
    rows = next(iter(sizes.values()), 0)
    if rows > ROWS_MAX:
        raise BadRequestError(f"entities: {rows} rows, at most {ROWS_MAX} at once")
    kinds = {
        key.name: str if key.type == "string" else int for view in service.views for key in view.join_keys
    }
    for name, kind in kinds.items():
        for value in request.entities[name]:
            if value is not None and not isinstance(value, kind):
                raise BadRequestError(f"entities: {name} holds {value!r}, expected {kind.__name__}")
    return rows


def _entity_result(values: Sequence[Any]) -> dict[str, Any]:
    return {
        "values": list(values),
        "statuses": ["PRESENT"] * len(values),
        "event_timestamps": ["1970-01-01T00:00:00Z"] * len(values),
    }


def _feature_result(column: Any, timestamps_ms: Sequence[int | None]) -> dict[str, Any]:
    values = [None if isinstance(value, float) and math.isnan(value) else value for value in column.tolist()]
    return {
        "values": values,
        "statuses": [_status(value, time_ms) for value, time_ms in zip(values, timestamps_ms, strict=True)],
        "event_timestamps": [_rfc3339(time_ms or 0) for time_ms in timestamps_ms],
    }


def _status(value: object, time_ms: int | None) -> str:
    if time_ms is None:
        return "NOT_FOUND"
    return "NULL_VALUE" if value is None else "PRESENT"


def _rfc3339(time_ms: int) -> str:
    moment = dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC)
    return moment.isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds").replace("+00:00", "Z")
