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
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, cast

import numpy as np

from services.feature_store import repository
from services.feature_store.entity_reader import Entities, EntityGroup
from services.feature_store.plan import Column, ServicePlan, View
from services.feature_store.served_features import AnyArray, Int64s, ServedFeatures, ServedView
from services.runtime import watermarks
from services.runtime.redis_pipeline import AsyncPipeline, BlockingPipeline, encode
from services.runtime.settings import Settings


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
    return repository.load(settings).service(service) if isinstance(service, str) else service


def _now_ms(entity_columns: Mapping[str, Sequence[Any]]) -> Int64s:
    rows = max(map(len, entity_columns.values()), default=0)
    return np.full(rows, time.time_ns() // 1_000_000)


@dataclasses.dataclass(frozen=True)
class _Question:
    """Commands for the store, and what they ask for."""

    batches: tuple[list[bytes], list[bytes]]
    """The watermarks, and behind them the rows: what those promise is in these."""
    entities: list[Entities]
    """By group of views."""
    times_ms: Int64s


class _ServiceReading:
    """What is asked of the store for one FeatureService, and how the replies are read; no I/O."""

    def __init__(self, service: ServicePlan, *, detailed: bool) -> None:
        self._stream_views = service.stream_views
        self._groups = [
            EntityGroup(service.project, views, detailed=detailed) for views in _by_join_keys(service.views)
        ]
        self._references = {
            f"{reference.view}__{reference.feature}" if detailed else reference.feature: (
                reference.view,
                reference.feature,
            )
            for reference in service.references
        }
        self._watermark_commands = [encode(("HGETALL", watermarks.key(name))) for name in self._stream_views]

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
