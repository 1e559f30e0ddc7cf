"""The skew check of one model: a sample of its archived predictions, recomputed from the archived events.

Checked is what is newly complete: a prediction whose request is archived, and up to whose event time the
archive holds every source (by the watermarks that follow from its events and heartbeats). Where the check
stands, and marks by which it finds its way in the archive, are kept in ``skew/<model>.json`` in the home
folder with the report, replaced at once after each pass; so a check that is killed repeats one pass at most.

Memory: a pass compares at most `PASS_REQUESTS_MAX` requests; their events are sorted on disk.
"""

import dataclasses
import hashlib
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from services import inference_log, telemetry
from services.feature_plan import FeaturePlan, ServicePlan
from services.features.intake import SourceReader
from services.features.offline import timeline
from services.features.offline.archived import Archive, Mark, Served, Stretch
from services.features.offline.skew import FeatureSkew, Result, SkewReport, sample_bound
from services.features.offline.sorting import EntitySort
from services.features.offline.timeline import Int64s, Span, Timeline
from services.features.states import Entity, ViewLogic
from services.model import ModelDeclaration
from services.settings import Settings
from services.watermarks import NEVER
from streams import topics
from streams.records import FeatureValue

PASS_REQUESTS_MAX = 2000
MARK_RECORDS = 50_000
"""Between two marks of a source partition."""
FOREVER_MS = 2**62


class _State(msgspec.Struct):
    report: SkewReport
    definition: str
    """Digest of the views: what was served by other definitions cannot be recomputed by these."""
    next_offsets: dict[int, int] = {}
    """By partition of the predictions."""
    marks: dict[str, dict[int, list[Mark]]] = {}
    """By topic and partition, in order; the last one is where the archive was read to."""


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A sampled request with the stream features that it was served."""

    prediction_id: str
    event_time_ms: int
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
        self._decoder = declaration.request.decoder()
        self._sources = _by_source(settings, plan, self._service)
        streams = set(self._service.stream_views)
        self._places = [
            (len(declaration.features.from_request) + index, reference)
            for index, reference in enumerate(self._service.references)
            if reference.view in streams
        ]
        self._width = len(declaration.features.from_request) + len(self._service.references)
        self._definition = _definition(self._service)
        self._path = settings.home / "skew" / f"{declaration.name}.json"

    def run(self) -> SkewReport:
        """Compare what is newly complete; return the report of all so far. `ArchiveError` without events."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="skew-", dir=self._settings.home) as folder:
            archive = Archive(self._settings, Path(folder))
            try:
                state = self._load(archive)
                complete_ms = min(
                    (self._advance(archive, state, reader) for reader, _ in self._sources), default=NEVER
                )
                before = msgspec.json.decode(msgspec.json.encode(state.report), type=SkewReport)
                while asked := self._next(archive, state, complete_ms):
                    self._compare(archive, Path(folder), state, asked)
                    self._save(state)
                self._save(state)
            finally:
                archive.close()
        _publish(before, state.report)
        return state.report

    def _read(self) -> _State:
        if self._path.is_file():
            return msgspec.json.decode(self._path.read_bytes(), type=_State)
        return self._fresh()

    def _fresh(self) -> _State:
        features = [FeatureSkew(view=r.view, feature=r.feature) for _, r in self._places]
        return _State(SkewReport(model=self._declaration.name, features=features), self._definition)

    def _load(self, archive: Archive) -> _State:
        """Read the state; begin anew with another archive, or behind what is there after new definitions."""
        state, fresh = self._read(), self._fresh()
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

    def _advance(self, archive: Archive, state: _State, reader: SourceReader) -> int:
        """Judge what is new of a source, and set marks; return the event time up to which it is complete."""
        topic = reader.source.topic
        marks = state.marks.setdefault(topic, {})
        for partition in archive.partitions(topic):
            marks.setdefault(partition, [Mark()])
        for judged in archive.judge(reader, {number: (own[-1], None) for number, own in marks.items()}):
            own = marks[judged.partition]
            if len(own) > 1 and own[-1].next_offset - own[-2].next_offset < MARK_RECORDS:
                own.pop()
            own.append(judged.mark)
        if len(marks) < self._partitions[topic]:
            return NEVER
        return min(own[-1].watermark_ms for own in marks.values()) - reader.source.lateness_ms

    def _next(self, archive: Archive, state: _State, complete_ms: int) -> list[_Asked]:
        """Take the next sampled requests of each partition, up to the first that is not complete."""
        model, request_topic = self._declaration.name, self._declaration.request.topic
        bound = sample_bound(self._settings.skew_share)
        asked: list[_Asked] = []
        for partition in archive.prediction_partitions(model):
            reached = archive.position(inference_log.PREDICTIONS, topics.predictions(model), partition)
            start, rows_max = state.next_offsets.get(partition, 0), PASS_REQUESTS_MAX - len(asked)
            rows = archive.served(model, request_topic, partition, start, bound, rows_max)
            if len(rows) == rows_max:
                reached = rows[-1].offset + 1 if rows else start
            for row in rows:
                if row.event_time_ms > complete_ms or self._is_awaited(archive, row):
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

    def _is_awaited(self, archive: Archive, row: Served) -> bool:
        """Tell whether the request of a prediction is still to be archived."""
        place = (self._declaration.request.topic, row.source_partition)
        return row.request is None and archive.position(inference_log.EVENTS, *place) <= row.source_offset

    def _asked(self, row: Served) -> _Asked:
        served = [
            row.numbers[place] if row.texts[place] is None else row.texts[place] for place, _ in self._places
        ]
        return _Asked(row.prediction_id, row.event_time_ms, self._decoder.decode(row.request), served)

    def _compare(self, archive: Archive, folder: Path, state: _State, asked: Sequence[_Asked]) -> None:
        recomputed: dict[tuple[str, str], list[FeatureValue]] = {}
        for reader, logics in self._sources:
            recomputed |= self._recompute(archive, folder, state, reader, logics, asked)
        columns = [recomputed[reference.view, reference.feature] for _, reference in self._places]
        for row, values in zip(asked, zip(*columns, strict=True), strict=True):
            state.report.compare(row.prediction_id, row.event_time_ms, row.served, values)

    def _recompute(
        self,
        archive: Archive,
        folder: Path,
        state: _State,
        reader: SourceReader,
        logics: Sequence[ViewLogic],
        asked: Sequence[_Asked],
    ) -> dict[tuple[str, str], list[FeatureValue]]:
        """Return by view and feature the values of the requests, of the views of one source."""
        first_ms, last_ms = _needed(logics, [row.event_time_ms for row in asked])
        stretches = _stretches(state.marks[reader.source.topic], first_ms, last_ms, reader.source.lateness_ms)
        rows_of = {logic.view.name: _by_entity(logic, asked) for logic in logics}
        wanted = {
            logic.view.name: {logic.key_of(entity) for entity in rows_of[logic.view.name]} for logic in logics
        }
        recomputed: dict[tuple[str, str], list[FeatureValue]] = {}
        with EntitySort(folder, reader, logics, wanted) as sort:
            for judged in archive.judge(reader, stretches):
                sort.add([pair for pair in judged.intake.events if first_ms <= pair[1].time_ms <= last_ms])
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


def _publish(before: SkewReport, report: SkewReport) -> None:
    """Bring the metrics up to a report."""
    for result in ("checked", "behind", "unreadable"):
        new = getattr(report, result) - getattr(before, result)
        telemetry.SKEW_REQUESTS.labels(report.model, result).inc(new)
    if report.checked_until_ms is not None:
        telemetry.SKEW_CHECKED_UNTIL.labels(report.model).set(report.checked_until_ms / 1000)
    for was, item in zip(before.features, report.features, strict=True):
        for kind in Result:
            new = getattr(item, kind) - getattr(was, kind)
            telemetry.SKEW_VALUES.labels(report.model, item.feature, kind).inc(new)
        telemetry.SKEW_DISTANCE.labels(report.model, item.feature).set(item.distance_max)
        telemetry.SKEW_SMAPE.labels(report.model, item.feature).set(item.smape)


def _definition(service: ServicePlan) -> str:
    """Return a digest of all that served values depend on."""
    views = [dataclasses.replace(view, batch_file=None) for view in service.views]
    return hashlib.sha256(msgspec.json.encode([service.references, views])).hexdigest()


def _by_source(
    settings: Settings, plan: FeaturePlan, service: ServicePlan
) -> list[tuple[SourceReader, list[ViewLogic]]]:
    found: dict[str, tuple[SourceReader, list[ViewLogic]]] = {}
    for view in service.views:
        if view.source is not None:
            fresh = (SourceReader(view.source, settings.record_bytes_max), list[ViewLogic]())
            found.setdefault(view.source.topic, fresh)[1].append(ViewLogic(plan.project, view))
    return list(found.values())


def _needed(logics: Iterable[ViewLogic], times_ms: Sequence[int]) -> tuple[int, int]:
    """Return the first and the last event time that the values at these times may depend on."""
    reaches = [timeline.reach_ms(logic.view) for logic in logics]
    first_ms = min(
        (-FOREVER_MS if reach_ms is None else min(times_ms) - reach_ms for reach_ms in reaches), default=0
    )
    return first_ms, max(times_ms)


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
