"""The skew check of one model: a sample of its archived predictions, recomputed.

Stream views are recomputed from the archived events, batch views from the files of their sources (see
`services.features.offline.materialized`).

Checked is what is newly complete: a prediction whose request is archived, and up to whose event time the
archive holds every source (by the watermarks that follow from its events and heartbeats). Where the check
stands, and marks by which it finds its way in the archive, are kept in ``skew/<model>.json`` in the home
folder with the report, replaced at once after each pass; so a check that is killed repeats one pass at most.
Beside it, ``skew/<model>.sqlite`` holds what views without a time to live need of the past.

A pass costs what it compares and the events of that time: it reads from the time to live, or the window,
before its first request. Where requests come more than `BEHIND_MS` out of order, a source that feeds views
without a time to live is read from its start.

Memory: a pass compares at most `PASS_REQUESTS_MAX` requests; their events are sorted on disk.
"""

import contextlib
import dataclasses
import hashlib
import math
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from services.feature_store import repository
from services.feature_store.plan import FeaturePlan, Materialized, ServicePlan, View
from services.features.decoder import SourceDecoder, source_decoder
from services.features.offline import materialized, timeline
from services.features.offline.archived_events import Archive, Archived, Mark, Served, Stretch
from services.features.offline.external_sort import EntitySort
from services.features.offline.materialized import Question, Seen
from services.features.offline.newest_rows import NewestEvents, newest_of
from services.features.offline.skew import FeatureSkew, Result, SkewReport, sample_bound
from services.features.offline.timeline import Int64s, Span, Timeline
from services.features.view_state import Entity, Event, ViewLogic
from services.monitoring import inference_log
from services.runtime import metrics, schema_registry_client
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from services.runtime.watermarks import NEVER
from streams import topics
from streams.records import FeatureValue

PASS_REQUESTS_MAX = 2000
MARK_RECORDS = 2000
"""Between two of the newest marks of a source partition: a pass reads so many that it does not need."""
FINE_MARKS = 50
COARSE_MARK_RECORDS = 50_000
"""Between two marks before the newest ones."""
FOREVER_MS = 2**62
BEHIND_MS = 3_600_000
"""How far requests may be behind those that were compared before."""
_FORM = 2
"""Of the state; one of another form is begun anew behind what is there."""


class _State(msgspec.Struct):
    report: SkewReport
    definition: str
    """Digest of the views: what was served by other definitions cannot be recomputed by these."""
    next_offsets: dict[int, int] = {}
    """By partition of the predictions."""
    marks: dict[str, dict[int, list[Mark]]] = {}
    """By topic and partition, in order; the last one is where the archive was read to."""
    materialized: dict[str, Seen] = {}
    """By batch view."""


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A sampled request with the features that it was served."""

    prediction_id: str
    event_time_ms: int
    scored_time_ms: int
    request: Any
    served: list[FeatureValue]


class SkewCheck:
    """Checks one model, again and again."""

    def __init__(
        self,
        settings: Settings,
        plan: FeaturePlan,
        declaration: ModelDeclaration,
        partitions: Mapping[str, int],
    ) -> None:
        """Prepare.

        Args:
            settings: Where the archive is, and the share of requests to compare.
            plan: The applied repository.
            declaration: Of the model.
            partitions: How many each source topic has: a partition that the archive has not met yet is
                awaited.
        """
        self._settings = settings
        self._partitions = partitions
        self._declaration = declaration
        self._service = plan.service(declaration.features.service)
        self._decoder = declaration.request.wire_decoder(schema_registry_client.connect(settings))
        self._sources = _by_source(settings, plan, self._service)
        self._from_request = len(declaration.features.from_request)
        self._width = self._from_request + len(self._service.references)
        self._definition = _definition(self._service)
        self._path = settings.home / "skew" / f"{declaration.name}.json"

    def run(self) -> SkewReport:
        """Compare what is newly complete; return the report of all so far. `ArchiveError` without events."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix="skew-", dir=self._settings.home) as folder,
            contextlib.closing(Archive(self._settings, Path(folder))) as archive,
            NewestEvents(self._path.with_suffix(".sqlite")) as newest,
        ):
            state = self._load(archive, newest)
            before = msgspec.json.decode(msgspec.json.encode(state.report), type=SkewReport)
            self._pass_all(_Pass(archive, newest, Path(folder), state, self._materialized(state)))
        _publish(before, state.report)
        return state.report

    def _pass_all(self, work: "_Pass") -> None:
        archive, state = work.archive, work.state
        complete_ms = min(
            (self._advance(archive, state, reader) for reader, _ in self._sources), default=FOREVER_MS
        )
        before: dict[int, int] | None = None
        while state.next_offsets != before:
            before = dict(state.next_offsets)
            if asked := self._next(archive, state, complete_ms):
                self._compare(work, asked)
            self._save(state)

    def _materialized(self, state: _State) -> dict[str, Materialized]:
        """Return what has been written of each batch view up to now, and remember that it was."""
        batch = [view.name for view in self._service.views if not view.is_stream]
        known = repository.load(self._settings).materialized if batch else {}
        found = {name: known[name] for name in batch if name in known}
        for name, written in found.items():
            state.materialized[name] = materialized.see(state.materialized.get(name, []), written)
        return found

    def _read(self) -> _State:
        if self._path.is_file():
            return msgspec.json.decode(self._path.read_bytes(), type=_State)
        return self._fresh()

    def _fresh(self) -> _State:
        features = [FeatureSkew(view=r.view, feature=r.feature) for r in self._service.references]
        return _State(SkewReport(model=self._declaration.name, features=features), self._definition)

    def _load(self, archive: Archive, newest: NewestEvents) -> _State:
        """Read the state; begin anew with another archive, or behind what is there after new definitions."""
        state, fresh = self._read(), self._fresh()
        loaded = self._continued(archive, state, fresh)
        if not loaded.marks:
            newest.clear()
        return loaded

    def _continued(self, archive: Archive, state: _State, fresh: _State) -> _State:
        topic = topics.predictions(self._declaration.name)
        positions = {
            number: archive.position(inference_log.PREDICTIONS, topic, number)
            for number in {*state.next_offsets, *archive.prediction_partitions(self._declaration.name)}
        }
        if any(positions[number] < offset for number, offset in state.next_offsets.items()):
            return fresh
        if state.definition != self._definition:
            fresh.next_offsets = positions
            return fresh
        return state

    def _save(self, state: _State) -> None:
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
        temporary.replace(self._path)

    def _advance(self, archive: Archive, state: _State, reader: SourceDecoder) -> int:
        """Judge what is new of a source, and set marks; return the event time up to which it is complete."""
        topic = reader.source.topic
        marks = state.marks.setdefault(topic, {})
        for partition in archive.partitions(topic):
            marks.setdefault(partition, [Mark()])
        for judged in archive.judge(reader, {number: (own[-1], None) for number, own in marks.items()}):
            _set_mark(marks[judged.partition], judged.mark)
        if len(marks) < self._partitions[topic]:
            return NEVER
        return min(own[-1].watermark_ms for own in marks.values()) - reader.source.lateness_ms

    def _next(self, archive: Archive, state: _State, complete_ms: int) -> list[_Asked]:
        """Take the next sampled requests of each partition, up to the first that is not complete."""
        asked: list[_Asked] = []
        pages, until_ms = self._pages(archive, state)
        for partition, (rows, behind) in pages.items():
            reached = behind
            for row in rows:
                if row.event_time_ms > min(complete_ms, until_ms) or self._is_awaited(archive, row):
                    reached = row.offset
                    break
                if row.request is None or len(row.numbers) != self._width:
                    state.report.unreadable += 1
                elif row.features_lag_ms != 0:
                    state.report.behind += 1
                else:
                    asked.append(self._asked(row))
            state.next_offsets[partition] = reached
        return asked

    def _pages(self, archive: Archive, state: _State) -> tuple[dict[int, tuple[list[Served], int]], int]:
        """Return by partition the next sampled requests and the offset behind them, and how far to go.

        That is the event time up to which no partition has more, so that all move through time together.
        """
        model, request_topic = self._declaration.name, self._declaration.request.topic
        bound = sample_bound(self._settings.skew_share)
        partitions = archive.prediction_partitions(model)
        rows_max = max(1, PASS_REQUESTS_MAX // max(1, len(partitions)))
        pages: dict[int, tuple[list[Served], int]] = {}
        until_ms = FOREVER_MS
        for partition in partitions:
            start = state.next_offsets.get(partition, 0)
            reached = archive.position(inference_log.PREDICTIONS, topics.predictions(model), partition)
            rows = archive.served(model, request_topic, partition, start, bound, rows_max)
            if len(rows) == rows_max:
                reached = rows[-1].offset + 1
                until_ms = min(until_ms, max(row.event_time_ms for row in rows))
            pages[partition] = (rows, reached)
        return pages, until_ms

    def _is_awaited(self, archive: Archive, row: Served) -> bool:
        """Tell whether the request of a prediction is still to be archived."""
        place = (self._declaration.request.topic, row.source_partition)
        return row.request is None and archive.position(inference_log.EVENTS, *place) <= row.source_offset

    def _asked(self, row: Served) -> _Asked:
        values = zip(row.numbers[self._from_request :], row.texts[self._from_request :], strict=True)
        served = [number if text is None else text for number, text in values]
        request = self._decoder.decode(row.request)
        return _Asked(row.prediction_id, row.event_time_ms, row.scored_time_ms, request, served)

    def _compare(self, work: "_Pass", asked: Sequence[_Asked]) -> None:
        recomputed: _Columns = {}
        for reader, logics in self._sources:
            recomputed |= _recompute(work, reader, logics, asked)
        for view in self._service.views:
            if view.name in work.materialized:
                recomputed |= self._recompute_batch(work, view, asked)
        unknown = [msgspec.UNSET] * len(asked)
        columns = [recomputed.get((r.view, r.feature), unknown) for r in self._service.references]
        for row, values in zip(asked, zip(*columns, strict=True), strict=True):
            work.state.report.compare(row.prediction_id, row.event_time_ms, row.served, values)

    def _recompute_batch(self, work: "_Pass", view: View, asked: Sequence[_Asked]) -> "_Columns":
        places = [n for n, reference in enumerate(self._service.references) if reference.view == view.name]
        names = [self._service.references[place].feature for place in places]
        by_name = {feature.name: feature for feature in view.features}
        questions = [
            Question(
                tuple(getattr(row.request, key.name) for key in view.join_keys),
                row.event_time_ms,
                row.scored_time_ms,
                [row.served[place] for place in places],
            )
            for row in asked
        ]
        rows = materialized.recompute(
            work.archive.connection,
            view,
            [by_name[name] for name in names],
            work.materialized[view.name],
            work.state.materialized[view.name],
            questions,
        )
        if rows is None:
            return {}
        return {
            (view.name, name): list(column)
            for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }


_Columns = dict[tuple[str, str], list[FeatureValue]]
"""By view and feature, one value for each request."""


@dataclasses.dataclass(frozen=True)
class _Pass:
    """What one run works with."""

    archive: Archive
    newest: NewestEvents
    folder: Path
    state: _State
    materialized: Mapping[str, Materialized]


def _recompute(
    work: _Pass, reader: SourceDecoder, logics: Sequence[ViewLogic], asked: Sequence[_Asked]
) -> _Columns:
    """Return by view and feature the values of the requests, of the views of one source."""
    rows_of = {logic.view.name: _by_entity(logic, asked) for logic in logics}
    wanted = {
        logic.view.name: {logic.key_of(entity) for entity in rows_of[logic.view.name]} for logic in logics
    }
    recomputed: _Columns = {}
    with EntitySort(work.folder, reader, logics, wanted) as sort:
        _collect(work, reader, logics, wanted, sort, [row.event_time_ms for row in asked])
        sort.close()
        for logic in logics:
            view = logic.view
            columns: list[list[FeatureValue]] = [[None] * len(asked) for _ in view.features]
            evaluator = Timeline(logic)
            for entity, events in timeline.by_entity(logic, sort.of_view(view.name)):
                rows = rows_of[view.name][entity]
                for span in evaluator.spans(events):
                    _fill(columns, evaluator, span, rows, asked)
            recomputed |= {
                (view.name, feature.name): column
                for feature, column in zip(view.features, columns, strict=True)
            }
    return recomputed


def _collect(
    work: _Pass,
    reader: SourceDecoder,
    logics: Sequence[ViewLogic],
    wanted: Mapping[str, Collection[bytes]],
    sort: EntitySort,
    times_ms: Sequence[int],
) -> None:
    """Sort the events that the values at these times depend on; keep what later passes need of the past."""
    source, newest = reader.source, work.newest
    first_ms = min(times_ms) - max(timeline.reach_ms(logic.view) for logic in logics)
    last_ms = max(times_ms)
    endless = [logic for logic in logics if not logic.view.ttl_ms]
    keep_until_ms = NEVER
    if endless:
        keep_until_ms = first_ms - BEHIND_MS
        kept_until_ms = newest.until_ms(source.topic)
        if kept_until_ms <= first_ms:
            sort.add(_kept(newest, reader, endless, wanted))
            first_ms = kept_until_ms
        else:
            first_ms, keep_until_ms = NEVER, NEVER
    stretches = _stretches(work.state.marks[source.topic], first_ms, last_ms, source.lateness_ms)
    for judged in work.archive.judge(reader, stretches):
        events = [pair for pair in judged.intake.events if first_ms <= pair[1].time_ms <= last_ms]
        sort.add(events)
        for logic in endless:
            newest.keep(logic.view.name, newest_of(logic, events, keep_until_ms))
    if keep_until_ms > first_ms:
        newest.commit(source.topic, keep_until_ms)


def _kept(
    newest: NewestEvents,
    reader: SourceDecoder,
    logics: Sequence[ViewLogic],
    wanted: Mapping[str, Collection[bytes]],
) -> list[tuple[Archived, Event]]:
    """Return what is kept of the wanted entities; an event that two views need is there once."""
    topic = reader.source.topic
    views = [logic.view.name for logic in logics]
    found = {
        (kept.partition, kept.offset): kept for view in views for kept in newest.of(view, [*wanted[view]])
    }
    records = [Archived(topic, kept.partition, kept.offset, kept.value, ()) for kept in found.values()]
    return [(record, reader.decode_record(record, record.partition, record.offset)) for record in records]


def _publish(before: SkewReport, report: SkewReport) -> None:
    """Bring the metrics up to a report."""
    for result in ("checked", "behind", "unreadable"):
        new = getattr(report, result) - getattr(before, result)
        metrics.SKEW_REQUESTS.labels(report.model, result).inc(new)
    if report.checked_until_ms is not None:
        metrics.SKEW_CHECKED_UNTIL.labels(report.model).set(report.checked_until_ms / 1000)
    for was, item in zip(before.features, report.features, strict=True):
        for kind in Result:
            new = getattr(item, kind) - getattr(was, kind)
            metrics.SKEW_VALUES.labels(report.model, item.feature, kind).inc(new)
        metrics.SKEW_DISTANCE.labels(report.model, item.feature).set(item.distance_max)
        metrics.SKEW_SMAPE.labels(report.model, item.feature).set(item.smape)


def _definition(service: ServicePlan) -> str:
    """Return a digest of all that served values depend on."""
    views = [dataclasses.replace(view, batch_file=None) for view in service.views]
    return hashlib.sha256(msgspec.json.encode([_FORM, service.references, views])).hexdigest()


def _by_source(
    settings: Settings, plan: FeaturePlan, service: ServicePlan
) -> list[tuple[SourceDecoder, list[ViewLogic]]]:
    found: dict[str, tuple[SourceDecoder, list[ViewLogic]]] = {}
    for view in service.views:
        if view.source is not None:
            fresh = (source_decoder(view.source, settings), list[ViewLogic]())
            found.setdefault(view.source.topic, fresh)[1].append(ViewLogic(plan.project, view))
    return list(found.values())


def _set_mark(marks: list[Mark], mark: Mark) -> None:
    """Add the place up to which a partition was read; thin out what is before the newest marks."""
    if len(marks) > 1 and marks[-1].next_offset - marks[-2].next_offset < MARK_RECORDS:
        marks.pop()
    marks.append(mark)
    old = len(marks) - FINE_MARKS
    if old > 1 and marks[old].next_offset - marks[old - 2].next_offset <= COARSE_MARK_RECORDS:
        del marks[old - 1]


def _stretches(
    marks: Mapping[int, Sequence[Mark]], first_ms: int, last_ms: int, lateness_ms: int
) -> dict[int, Stretch]:
    """Return the part of each partition that holds all accepted events between two times.

    What was accepted before a mark is not later than its watermark plus 1 ms; what comes after a mark is late
    up to its watermark less the lateness.
    """
    stretches = {}
    for partition, own in marks.items():
        start = next((mark for mark in reversed(own) if mark.watermark_ms + 1 < first_ms), own[0])
        end = next((mark.next_offset for mark in own if mark.watermark_ms - lateness_ms >= last_ms), None)
        stretches[partition] = (start, end)
    return stretches


def _by_entity(logic: ViewLogic, asked: Sequence[_Asked]) -> dict[Entity, list[int]]:
    """Return the rows of each entity, in order of their event time."""
    rows: dict[Entity, list[int]] = {}
    for row in sorted(range(len(asked)), key=lambda row: asked[row].event_time_ms):
        entity = logic.entity(asked[row].request)
        if entity is not None:
            rows.setdefault(entity, []).append(row)
    return rows


def _fill(
    columns: Sequence[list[FeatureValue]],
    evaluator: Timeline,
    span: Span,
    rows: Sequence[int],
    asked: Sequence[_Asked],
) -> None:
    """Put in the values of those rows that ask for a time within a span."""
    within = [row for row in rows if span.instants_ms[0] <= asked[row].event_time_ms < span.end_ms]
    if not within:
        return
    times_ms: Int64s = np.array([asked[row].event_time_ms for row in within], dtype=np.int64)
    for column, values in zip(columns, evaluator.values(span, times_ms).columns, strict=True):
        for row, value in zip(within, values.tolist(), strict=True):
            column[row] = _as_served(value)


def _as_served(value: Any) -> FeatureValue:
    """Return a value as a prediction carries it: texts, numbers as doubles, null."""
    if value is None or isinstance(value, str):
        return value
    return None if math.isnan(value) else float(value)
