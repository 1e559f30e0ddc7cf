"""The past of each stream view, from the archived events, into the file of its batch source.

In three steps, none of which needs memory for more than a part:

1. Each source partition is judged in the order of its offsets, as the stream judged it; accepted events
   go to a scratch file with the key of their entity in each view.
2. They are sorted by entity and event time, on disk where they do not fit.
3. Each entity's events become one row for each change of a value (`services.features.offline.timeline`).

The files change at once and only when a view is complete. To repeat it is harmless.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from services.feature_store.plan import FeaturePlan, PlanError, View
from services.features.decoder import SourceDecoder, source_decoder
from services.features.offline import timeline
from services.features.offline.archived_events import BATCH_RECORDS, Archive
from services.features.offline.external_sort import EntitySort
from services.features.offline.parquet_file import BatchWriter
from services.features.offline.timeline import END_MS, Timeline, Values
from services.features.view_state import Event, ViewLogic
from services.runtime.settings import Settings

Report = Callable[[str, int, int], None]
"""Is told a step, how many records of it are done, and of how many."""


@dataclasses.dataclass
class Account:
    """What became of a view's archived records."""

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
    report: Report,
    *,
    views: Sequence[str] = (),
    until_ms: int = END_MS,
) -> list[Account]:
    """Write the files of these stream views, default all; return what became of their records.

    Events and changes after ``until_ms`` are left out. Raises `PlanError` for a view that has no such file,
    `ArchiveError` if there are no archived events.
    """
    chosen = _chosen(plan, views)
    settings.home.mkdir(parents=True, exist_ok=True)
    accounts: list[Account] = []
    with tempfile.TemporaryDirectory(prefix="backfill-", dir=settings.home) as folder:
        archive = Archive(settings, Path(folder))
        try:
            for own in plan.by_topic().values():
                if logics := [ViewLogic(plan.project, view) for view in own if view in chosen]:
                    accounts += _source(settings, archive, Path(folder), logics, report, until_ms)
        finally:
            archive.close()
    return accounts


def _chosen(plan: FeaturePlan, names: Sequence[str]) -> list[View]:
    chosen = [plan.view(name) for name in names] or [view for view in plan.views if view.is_stream]
    for view in chosen:
        if not view.is_stream:
            raise PlanError(
                f"view {view.name!r} is no stream view: Feast writes it from its own batch source"
            )
        if view.batch_file is None:
            raise PlanError(
                f"view {view.name!r}: its batch source must be a FileSource of a local .parquet file, "
                "without created_timestamp_column and field_mapping"
            )
        sharing = [other.name for other in plan.views if other.batch_file == view.batch_file]
        if len(sharing) > 1:
            raise PlanError(
                f"views {', '.join(sharing)} share the batch source {view.batch_file.path}: give each its own"
            )
    return chosen


def _source(
    settings: Settings,
    archive: Archive,
    folder: Path,
    logics: Sequence[ViewLogic],
    report: Report,
    until_ms: int,
) -> list[Account]:
    """Backfill the views of one source."""
    source = logics[0].view.source
    assert source is not None
    reader = source_decoder(source, settings)
    files = [logic.view.batch_file for logic in logics]
    accounts = [
        Account(logic.view.name, file.path) for logic, file in zip(logics, files, strict=True) if file
    ]
    with EntitySort(folder, reader, logics) as sort:
        _judge(archive, reader, sort, accounts, report, until_ms)
        sort.close()
        for logic, account in zip(logics, accounts, strict=True):
            _write(sort, logic, account, report, until_ms)
    return accounts


def _judge(
    archive: Archive,
    reader: SourceDecoder,
    sort: EntitySort,
    accounts: Sequence[Account],
    report: Report,
    until_ms: int,
) -> None:
    topic = reader.source.topic
    total, done = archive.count(topic), 0
    for judged in archive.judge(reader):
        accepted = [pair for pair in judged.intake.events if pair[1].time_ms <= until_ms]
        sort.add(accepted)
        for account in accounts:
            account.events += len(accepted)
            account.late += len(judged.intake.late)
            account.invalid += len(judged.intake.dead_letters)
        done += judged.records
        report(f"judging {topic}", done, total)


def _write(sort: EntitySort, logic: ViewLogic, account: Account, report: Report, until_ms: int) -> None:
    view, evaluator = logic.view, Timeline(logic)
    assert view.batch_file is not None
    taken = sort.taken[view.name]
    account.no_entity = account.events - taken
    events = _reported(sort.of_view(view.name), lambda done: report(f"writing {view.name}", done, taken))
    with BatchWriter(view, view.batch_file) as writer:
        for entity, own in timeline.by_entity(logic, events):
            account.entities += 1
            for values in evaluator.changes(own):
                writer.add(entity, _until(values, until_ms))
    account.rows = writer.rows


def _reported(events: Iterator[Event], report: Callable[[int], None]) -> Iterator[Event]:
    done = 0
    for event in events:
        yield event
        done += 1
        if done % BATCH_RECORDS == 0:
            report(done)
    report(done)


def _until(values: Values, until_ms: int) -> Values:
    kept = values.times_ms <= until_ms
    return Values(values.times_ms[kept], [column[kept] for column in values.columns])
