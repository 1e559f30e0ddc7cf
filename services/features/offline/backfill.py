"""Compute the history of each stream view from the archived events, and write the file of its batch source.

There are three steps, each with bounded memory:

1. Each source partition is decoded in the order of its offsets, as in the stream. Accepted events go to a
   scratch file with the key of their entity in each view.
2. They are sorted by entity and event time, on disk where they do not fit.
3. Each entity's events become one row for each change of a value (`services.features.offline.timeline`).

Each file is replaced atomically, and only when its view is complete. So a backfill can be repeated.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from services.feature_store.plan import FeaturePlan, PlanError, View
from services.features.decoder import SourceDecoder, source_decoder
from services.features.offline import timeline
from services.features.offline.archived_events import BATCH_RECORDS, EventArchive
from services.features.offline.external_sort import EntitySort
from services.features.offline.parquet_file import BatchFileWriter
from services.features.offline.timeline import END_MS, FeatureValues, ViewTimeline
from services.features.view_state import Event, ViewLogic
from services.runtime.settings import Settings

ReportProgress = Callable[[str, int, int], None]
"""Called with the name of a step, its number of finished records, and its total."""


@dataclasses.dataclass
class BackfillResult:
    """What the backfill of one view read and wrote."""

    view: str
    path: str
    events: int = 0
    late: int = 0
    invalid: int = 0
    no_entity: int = 0
    entities: int = 0
    rows: int = 0


def run(
    settings: Settings,
    plan: FeaturePlan,
    report: ReportProgress,
    *,
    views: Sequence[str] = (),
    until_ms: int = END_MS,
) -> list[BackfillResult]:
    """Write the files of these stream views (default: all); return the result of each.

    Events and changes after ``until_ms`` are left out.

    Raises:
        PlanError: A view has no such file.
        ArchiveError: There are no archived events.
    """
    selected = _select(plan, views)
    settings.home.mkdir(parents=True, exist_ok=True)
    results: list[BackfillResult] = []
    with tempfile.TemporaryDirectory(prefix="backfill-", dir=settings.home) as folder:
        archive = EventArchive(settings, Path(folder))
        try:
            for topic, views_of_topic in plan.by_topic().items():
                if logics := [ViewLogic(plan.project, view) for view in views_of_topic if view in selected]:
                    decoder = source_decoder(plan, topic, settings)
                    results += _backfill_source(decoder, archive, Path(folder), logics, report, until_ms)
        finally:
            archive.close()
    return results


def _select(plan: FeaturePlan, names: Sequence[str]) -> list[View]:
    selected = [plan.view(name) for name in names] or [view for view in plan.views if view.is_stream]
    for view in selected:
        if not view.is_stream:
            raise PlanError(
                f"view {view.name!r} is not a stream view: Feast writes it from its own batch source"
            )
        if view.batch_file is None:
            raise PlanError(
                f"view {view.name!r}: its batch source must be a FileSource over a local Parquet file, "
                "without created_timestamp_column and field_mapping"
            )
        sharing = [other.name for other in plan.views if other.batch_file == view.batch_file]
        if len(sharing) > 1:
            raise PlanError(
                f"views {', '.join(sharing)} share the batch source {view.batch_file.path}: give each view a "
                "separate file"
            )
    return selected


def _backfill_source(
    decoder: SourceDecoder,
    archive: EventArchive,
    folder: Path,
    logics: Sequence[ViewLogic],
    report: ReportProgress,
    until_ms: int,
) -> list[BackfillResult]:
    """Backfill the views of one source."""
    files = [logic.view.batch_file for logic in logics]
    results = [
        BackfillResult(logic.view.name, file.path) for logic, file in zip(logics, files, strict=True) if file
    ]
    with EntitySort(folder, decoder, logics) as sort:
        _collect(archive, decoder, sort, results, report, until_ms)
        sort.close()
        for logic, result in zip(logics, results, strict=True):
            _write(sort, logic, result, report, until_ms)
    return results


def _collect(
    archive: EventArchive,
    decoder: SourceDecoder,
    sort: EntitySort,
    results: Sequence[BackfillResult],
    report: ReportProgress,
    until_ms: int,
) -> None:
    """Add the accepted events of a source to the sort."""
    topic = decoder.source.topic
    total, done = archive.count(topic), 0
    for batch in archive.decode(decoder):
        accepted = [pair for pair in batch.decoded.events if pair[1].time_ms <= until_ms]
        sort.add(accepted)
        for result in results:
            result.events += len(accepted)
            result.late += len(batch.decoded.late)
            result.invalid += len(batch.decoded.dead_letters)
        done += batch.records
        report(f"reading {topic}", done, total)


def _write(
    sort: EntitySort, logic: ViewLogic, result: BackfillResult, report: ReportProgress, until_ms: int
) -> None:
    """Write the file of one view."""
    view, evaluator = logic.view, ViewTimeline(logic)
    assert view.batch_file is not None
    total = sort.counts[view.name]
    result.no_entity = result.events - total
    events = _counted(sort.of_view(view.name), lambda done: report(f"writing {view.name}", done, total))
    with BatchFileWriter(view, view.batch_file) as writer:
        for entity, events_of_entity in timeline.by_entity(logic, events):
            result.entities += 1
            for values in evaluator.changes(events_of_entity):
                writer.add(entity, _until(values, until_ms))
    result.rows = writer.rows


def _counted(events: Iterator[Event], report: Callable[[int], None]) -> Iterator[Event]:
    """Yield events; report their number now and then, and at the end."""
    done = 0
    for event in events:
        yield event
        done += 1
        if done % BATCH_RECORDS == 0:
            report(done)
    report(done)


def _until(values: FeatureValues, until_ms: int) -> FeatureValues:
    kept = values.times_ms <= until_ms
    return FeatureValues(values.times_ms[kept], [column[kept] for column in values.columns])
