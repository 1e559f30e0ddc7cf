"""Recomputes the features of sampled requests: stream views from archived events, batch views from files."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from services.feature_store import own_events
from services.feature_store.own_events import OwnValues
from services.feature_store.plan import Materialized, OwnEvent, ServicePlan, View
from services.features.decoder import SourceDecoder
from services.features.offline import materialized_rows, timeline, watermark_index
from services.features.offline.archived_events import ArchivedRecord, EventArchive
from services.features.offline.external_sort import EntitySort
from services.features.offline.materialized_rows import BatchLookup
from services.features.offline.newest_events import NewestEvents, newest_by_key
from services.features.offline.prediction_sample import SampledRequest
from services.features.offline.skew_state import SkewState
from services.features.offline.timeline import Int64s, StateSpan, ViewTimeline
from services.features.view_state import Entity, Event, ViewLogic
from services.runtime.watermarks import NEVER
from streams.records import FeatureValue

Columns = dict[tuple[str, str], list[FeatureValue]]
"""One value per request, by view and feature."""
SourceViews = tuple[SourceDecoder, list[ViewLogic]]
"""A source with its views."""
Wanted = Mapping[str, Collection[bytes]]
"""The keys of the requested entities, by view."""


@dataclasses.dataclass(frozen=True)
class Recomputation:
    """Recomputes features in one pass of the skew check; events are sorted on disk."""

    service: ServicePlan
    sources: Sequence[SourceViews]
    archive: EventArchive
    newest: NewestEvents
    folder: Path
    state: SkewState
    materialized: Mapping[str, Materialized]
    """The materialisations of the batch views."""
    disorder_ms: int
    """See `services.features.offline.skew_check.SkewLimits`."""

    def rows(self, requests: Sequence[SampledRequest]) -> list[tuple[FeatureValue | msgspec.UnsetType, ...]]:
        """Return the features of each request; UNSET for those that cannot be recomputed."""
        found: Columns = {}
        for decoder, logics in self.sources:
            found |= self._stream_columns(decoder, logics, requests)
        for view in self.service.views:
            if view.name in self.materialized:
                found |= self._batch_columns(view, requests)
        unknown = [msgspec.UNSET] * len(requests)
        columns = [found.get((r.view, r.feature), unknown) for r in self.service.references]
        return list(zip(*columns, strict=True))

    def _batch_columns(self, view: View, requests: Sequence[SampledRequest]) -> Columns:
        indexes = [n for n, reference in enumerate(self.service.references) if reference.view == view.name]
        names = [self.service.references[index].feature for index in indexes]
        by_name = {feature.name: feature for feature in view.features}
        lookups = [
            BatchLookup(
                tuple(getattr(row.request, key.name) for key in view.join_keys),
                row.event_time_ms,
                row.scored_time_ms,
                [row.served[index] for index in indexes],
            )
            for row in requests
        ]
        rows = materialized_rows.recompute(
            self.archive.connection,
            view,
            [by_name[name] for name in names],
            self.materialized[view.name],
            self.state.materialized[view.name],
            lookups,
        )
        if rows is None:
            return {}
        return {
            (view.name, name): list(column)
            for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }

    def _stream_columns(
        self, decoder: SourceDecoder, logics: Sequence[ViewLogic], requests: Sequence[SampledRequest]
    ) -> Columns:
        """Return the values of the views of one source."""
        rows_of = {logic.view.name: _rows_by_entity(logic, requests) for logic in logics}
        wanted = {
            logic.view.name: {logic.key_of(entity) for entity in rows_of[logic.view.name]} for logic in logics
        }
        found: Columns = {}
        with EntitySort(self.folder, decoder, logics, wanted) as sort:
            self._collect(decoder, logics, wanted, sort, [row.event_time_ms for row in requests])
            sort.close()
            for logic in logics:
                own = self.service.own_event if logic.view in self.service.own_views else None
                found |= _evaluate(logic, sort, rows_of[logic.view.name], requests, own)
        return found

    def _collect(
        self,
        decoder: SourceDecoder,
        logics: Sequence[ViewLogic],
        wanted: Wanted,
        sort: EntitySort,
        times_ms: Sequence[int],
    ) -> None:
        """Sort the events that the values at these times depend on; store what later passes need."""
        source, newest = decoder.source, self.newest
        start_ms = min(times_ms) - max(timeline.reach_ms(logic.view) for logic in logics)
        last_ms = max(times_ms)
        without_ttl = [logic for logic in logics if not logic.view.ttl_ms]
        store_until_ms = NEVER
        if without_ttl:
            stored_until_ms = newest.until_ms(source.topic)
            if stored_until_ms <= start_ms:
                store_until_ms = start_ms - self.disorder_ms
                sort.add(_stored_events(newest, decoder, without_ttl, wanted))
                start_ms = stored_until_ms
            else:
                start_ms = NEVER
        index = self.state.index[source.topic]
        ranges = watermark_index.offset_ranges(index, start_ms, last_ms, source.lateness_ms)
        for batch in self.archive.decode(decoder, ranges):
            events = [pair for pair in batch.decoded.events if start_ms <= pair[1].time_ms <= last_ms]
            sort.add(events)
            for logic in without_ttl:
                newest.put(logic.view.name, newest_by_key(logic, events, store_until_ms))
        if store_until_ms > start_ms:
            newest.commit(source.topic, store_until_ms)


def _evaluate(
    logic: ViewLogic,
    sort: EntitySort,
    rows_by_entity: Mapping[Entity, Sequence[int]],
    requests: Sequence[SampledRequest],
    own_event: OwnEvent | None,
) -> Columns:
    """Return the values of one view from its sorted events."""
    view, evaluator = logic.view, ViewTimeline(logic)
    columns: list[list[FeatureValue]] = [[None] * len(requests) for _ in view.features]
    own = None
    if own_event is not None and own_event.is_included:
        own = own_events.of_view(view)
        _fill_own(columns, own, None, [row for rows in rows_by_entity.values() for row in rows], requests)
    before_ms = 0 if own_event is None else own_events.BEFORE_MS
    for entity, events in timeline.by_entity(logic, sort.of_view(view.name)):
        for span in evaluator.spans(events):
            within = _within(span, rows_by_entity[entity], requests, before_ms)
            if within and own is not None:
                state = logic.stored(span.state)
                _fill_own(columns, own, state, within, requests)
            elif within:
                _fill(columns, evaluator, span, within, requests, before_ms)
    return {(view.name, feature.name): column for feature, column in zip(view.features, columns, strict=True)}


def _stored_events(
    newest: NewestEvents, decoder: SourceDecoder, logics: Sequence[ViewLogic], wanted: Wanted
) -> list[tuple[ArchivedRecord, Event]]:
    """Return the stored events of the wanted entities; an event that two views need is returned once."""
    topic = decoder.source.topic
    views = [logic.view.name for logic in logics]
    found = {
        (event.partition, event.offset): event
        for view in views
        for event in newest.find(view, [*wanted[view]])
    }
    records = [
        ArchivedRecord(topic, event.partition, event.offset, event.value, ()) for event in found.values()
    ]
    return [(record, decoder.decode_record(record, record.partition, record.offset)) for record in records]


def _rows_by_entity(logic: ViewLogic, requests: Sequence[SampledRequest]) -> dict[Entity, list[int]]:
    """Return the row numbers of each entity's requests, in order of their event time."""
    rows: dict[Entity, list[int]] = {}
    for row in sorted(range(len(requests)), key=lambda row: requests[row].event_time_ms):
        entity = logic.entity(requests[row].request)
        if entity is not None:
            rows.setdefault(entity, []).append(row)
    return rows


def _within(
    span: StateSpan, rows: Sequence[int], requests: Sequence[SampledRequest], before_ms: int
) -> list[int]:
    """Return the rows whose event time, less ``before_ms``, lies in a span."""
    start_ms, end_ms = span.instants_ms[0] + before_ms, span.end_ms + before_ms
    return [row for row in rows if start_ms <= requests[row].event_time_ms < end_ms]


def _fill_own(
    columns: Sequence[list[FeatureValue]],
    own: OwnValues,
    state: Any,
    rows: Sequence[int],
    requests: Sequence[SampledRequest],
) -> None:
    """Fill in the values of rows that count in their own features."""
    for row in rows:
        values = own.values(state, requests[row].event_time_ms, requests[row].request)
        for column, value in zip(columns, values or [None] * len(columns), strict=True):
            column[row] = _as_served(value)


def _fill(
    columns: Sequence[list[FeatureValue]],
    evaluator: ViewTimeline,
    span: StateSpan,
    within: Sequence[int],
    requests: Sequence[SampledRequest],
    before_ms: int,
) -> None:
    """Fill in the values of the rows whose event time, less ``before_ms``, lies in a span."""
    times_ms: Int64s = np.array([requests[row].event_time_ms - before_ms for row in within], dtype=np.int64)
    for column, values in zip(columns, evaluator.values(span, times_ms).columns, strict=True):
        for row, value in zip(within, values.tolist(), strict=True):
            column[row] = _as_served(value)


def _as_served(value: Any) -> FeatureValue:
    """Return a value in the form of a prediction's features: text, a number as double, or null."""
    if value is None or isinstance(value, str):
        return value
    return None if math.isnan(value) else float(value)
