"""Read the online store: every row at its own event time, all rows in one round trip.

For example::

    import asyncio

    from services.feature_store.online_reader import OnlineReader
    from services.runtime.settings import Settings

    async def main():
        async with OnlineReader.connect(Settings(), "arrival_delay") as reader:   # fast: no Feast
            reader.service.feature_names   # ("origin_delay_mean_1h", ...), in the FeatureService's order
            reader.service.join_keys       # ("origin", "carrier", "dest", "tailnum"): the columns to pass
            rows = await reader.read({"origin": [...], "carrier": [...], ...}, times_ms)   # default: now
            rows.columns["origin_delay_mean_1h"]   # float64 (n,), nan = missing; strings: object, None
            rows.lag_ms                            # int64 (n,), -1 = a view has never reported

    asyncio.run(main())

Scoring first waits until the features are complete::

    passed = await reader.wait_for(event_time_ms, timeout_seconds=60)   # all stream views, bounded
    rows = await reader.read(entity_columns, event_times_ms)

Batch views are decoded from Feast's own bytes. Stream views are computed from the sidecar at each row's event
time, so a value never holds an event later than that, however far ahead the features process is.

The age of a value is the row's event time minus the time of the entity's newest event that is not later (of a
batch view: the time of Feast's row). If the age exceeds the view's ttl, or the entity has no event by then,
every feature of the view is missing, as in Feast's point-in-time join; this includes counts::

    rows.views["origin_departures"].ages_ms                # int64 (n,), -1 = not found
    rows.statuses("origin_delay_mean_1h", view="origin_departures")   # uint8 (n,) of `Status`
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from services.feature_store import repository
from services.feature_store.plan import ServicePlan
from services.feature_store.served_features import Int64s, ServedFeatures
from services.feature_store.service_codec import ServiceCodec
from services.runtime import times, watermarks
from services.runtime.redis_pipeline import AsyncPipeline
from services.runtime.settings import Settings


class OnlineReader:
    """Serves one FeatureService at each row's own event time."""

    def __init__(self, service: ServicePlan, pipeline: AsyncPipeline, *, detailed: bool = False) -> None:
        """Read through this pipeline, which readers may share; see `connect`.

        ``detailed`` is what a client of the HTTP API needs: ages of all views, and columns named
        ``view__feature`` whose values are exact (objects, None for null), except for the floats of windows.
        """
        self.service = service
        self._pipeline = pipeline
        self._codec = ServiceCodec(service, detailed=detailed)
        self._marks = [watermarks.of_view(service.project, view) for view in service.stream_views]
        self._passed_ms = watermarks.NEVER

    @classmethod
    def connect(cls, settings: Settings, service: ServicePlan | str) -> Self:
        """Make a reader of a FeatureService, given itself or its name, with its own connection.

        Raises `PlanError` if the applied repository has no service of this name.
        """
        if isinstance(service, str):
            service = repository.load(settings).service(service)
        return cls(service, AsyncPipeline.connect(settings))

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
        self,
        entity_columns: Mapping[str, Sequence[Any]],
        event_times_ms: Int64s | None = None,
        events: Sequence[Any] | None = None,
    ) -> ServedFeatures:
        """Return the features of n rows, each at its own event time (n,); without times, all as of now.

        A null in an entity column makes the features of that row missing. ``events`` (n,) are the decoded
        requests, which are needed if the plan of the service says that they count in their own features.

        Raises `redis.RedisError` if the store cannot be reached; KeyError for a missing entity column.
        """
        times_ms = _now_ms(entity_columns) if event_times_ms is None else event_times_ms
        request = self._codec.encode(entity_columns, times_ms, events)
        replies = await self._pipeline.exchange(*request.batches)
        served = self._codec.decode(request, replies)
        # Not the highest ever: a view that is built again begins without a watermark.
        marks = [watermarks.NEVER if mark is None else mark for mark in served.watermarks_ms.values()]
        self._passed_ms = min(marks, default=watermarks.NEVER)
        return served

    async def wait_for(self, event_time_ms: int, timeout_seconds: float) -> bool:
        """Wait until all stream views' watermarks have passed an event time; return whether they have.

        The last `read` may have answered for it. A view that has been rebuilt since then lags; then the
        next `read` has a lag.
        """
        if event_time_ms <= self._passed_ms:
            return True
        passed = await watermarks.wait_for(self._pipeline, self._marks, event_time_ms, timeout_seconds)
        if passed:
            self._passed_ms = max(self._passed_ms, event_time_ms)
        return passed


def _now_ms(entity_columns: Mapping[str, Sequence[Any]]) -> Int64s:
    rows = max(map(len, entity_columns.values()), default=0)
    return np.full(rows, times.now_ms())
