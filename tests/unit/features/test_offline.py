"""The archive, read again: lateness, limits of time, files replaced at once; what the skew check counts."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.write_buffer import WriteBuffer
from services.feature_store.plan import (
    BatchFile,
    Column,
    FeatureAggregation,
    FeaturePlan,
    PlanError,
    StreamSource,
    ValueType,
    View,
    ViewKind,
)
from services.features.decoder import SourceDecoder
from services.features.offline import backfill, command, skew_check
from services.features.offline.archived_events import Archive, ArchiveError, Mark
from services.features.offline.skew import FeatureSkew, SkewReport, lines
from services.runtime.settings import Settings
from streams import codec
from tests.shop import stamp

START_MS = 1_372_680_000_000
TOPIC = "orders"
SOURCE = StreamSource(
    TOPIC,
    "at",
    codec.parse_ddl("shop string, at timestamp not null, amount double"),
    ("shop",),
    lateness_ms=5000,
)


@dataclasses.dataclass
class Record:
    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int = 0
    topic: str = TOPIC
    timestamp: int = 0
    key: bytes | None = None


def order(offset: int, second: float, amount: float = 1.0, shop: str | None = "mill") -> Record:
    at = stamp(START_MS + round(second * 1000))
    return Record(offset, json.dumps({"shop": shop, "at": at, "amount": amount}).encode())


def beat(offset: int, second: int) -> Record:
    return Record(offset, None, codec.heartbeat(START_MS + second * 1000))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def plan(tmp_path: Path) -> FeaturePlan:
    view = View(
        name="by_shop",
        kind=ViewKind.WINDOWED,
        join_keys=(Column("shop", ValueType.STRING),),
        features=(Column("total", ValueType.DOUBLE),),
        ttl_ms=0,
        source=SOURCE,
        aggregations=(FeatureAggregation("total", "amount", "sum", 60_000),),
        hop_ms=10_000,
        batch_file=BatchFile(str(tmp_path / "by_shop.parquet"), "event_timestamp"),
    )
    return FeaturePlan("p", (view,), {})


def archive(settings: Settings, *found: Record) -> None:
    """Archive as the archive process does."""
    pending = WriteBuffer(row_schemas.EVENTS, lambda record, reason: pytest.fail(reason))
    pending.start((TOPIC, 0), 0, {})
    pending.add((TOPIC, 0), found)
    DeltaWriter(settings, row_schemas.EVENTS).append(pending.rows, pending.positions)


def quiet(step: str, done: int, total: int) -> None: ...


def rows_of(plan: FeaturePlan) -> list[tuple[float, float | None]]:
    """Return the file's rows as (seconds after the start, total), without the row that has no time."""
    assert plan.views[0].batch_file is not None
    columns = pq.read_table(plan.views[0].batch_file.path).to_pydict()
    return [
        (at.timestamp() - START_MS / 1000, total)
        for at, total in zip(columns["event_timestamp"], columns["total"], strict=True)
        if at is not None
    ]


def test_a_heartbeat_makes_late_what_the_events_alone_would_not(settings: Settings, plan: FeaturePlan):
    archive(settings, order(0, 10), beat(1, 40), order(2, 34), order(3, 36, amount=2.0))
    (account,) = backfill.run(settings, plan, quiet)
    assert (account.events, account.late, account.entities) == (2, 1, 1)
    assert rows_of(plan) == [(10, 1.0), (36, 3.0), (80, 2.0), (100, None)]


def test_after_the_last_moment_there_is_nothing(settings: Settings, plan: FeaturePlan):
    archive(settings, order(0, 10), order(1, 30), order(2, 31), order(3, 32, shop=None))
    (account,) = backfill.run(settings, plan, quiet, until_ms=START_MS + 30_000)
    assert (account.events, account.rows, rows_of(plan)) == (2, 2, [(10, 1.0), (30, 2.0)])


def test_an_event_without_entity_is_counted(settings: Settings, plan: FeaturePlan):
    archive(settings, order(0, 10), order(1, 11, shop=None), Record(2, b"{"))
    (account,) = backfill.run(settings, plan, quiet)
    assert (account.events, account.no_entity, account.invalid) == (2, 1, 1)


def test_a_backfill_that_fails_leaves_the_old_file_and_nothing_else(
    settings: Settings, plan: FeaturePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    archive(settings, order(0, 10))
    backfill.run(settings, plan, quiet)
    before = rows_of(plan)
    monkeypatch.setattr(backfill, "_until", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backfill.run(settings, plan, quiet)
    assert rows_of(plan) == before
    assert {path.name for path in tmp_path.iterdir()} == {"home", "by_shop.parquet"}
    assert {path.name for path in settings.home.iterdir()} == {"archive"}


def test_views_that_share_a_file_or_have_none_are_refused_by_name(settings: Settings, plan: FeaturePlan):
    (view,) = plan.views
    twin = dataclasses.replace(view, name="by_twin")
    with pytest.raises(PlanError, match="by_shop, by_twin share"):
        backfill.run(settings, dataclasses.replace(plan, views=(view, twin)), quiet)
    bare = dataclasses.replace(view, batch_file=None)
    with pytest.raises(PlanError, match=r"'by_shop': its batch source must be a FileSource"):
        backfill.run(settings, dataclasses.replace(plan, views=(bare,)), quiet)


def test_without_an_archive_the_answer_is_what_to_do(settings: Settings, plan: FeaturePlan):
    with pytest.raises(ArchiveError, match="is the archive process running"):
        backfill.run(settings, plan, quiet)


def test_a_stretch_between_marks_is_judged_as_the_whole_is(settings: Settings, tmp_path: Path):
    """Whatever is accepted in it, or before it within its times, is the same."""
    archive(settings, *(order(n, second) for n, second in enumerate([0, 9, 3, 5, 30, 24, 26, 50, 44, 46])))
    reader = SourceDecoder(SOURCE, settings.record_bytes_max)
    source = Archive(settings, tmp_path)
    (whole,) = source.judge(reader)
    marks = [Mark()]
    for end in range(1, 11):
        (judged,) = source.judge(reader, {0: (marks[-1], end)})
        marks.append(judged.mark)
    assert marks[-1] == whole.mark
    for first in range(0, 50, 4):
        for last in range(first, 51, 5):
            limits = START_MS + first * 1000, START_MS + last * 1000
            stretches = skew_check._stretches({0: marks}, *limits, SOURCE.lateness_ms)
            found = [event for judged in source.judge(reader, stretches) for _, event in judged.intake.events]
            within = [event for event in found if limits[0] <= event.time_ms <= limits[1]]
            assert within == [e for _, e in whole.intake.events if limits[0] <= e.time_ms <= limits[1]]
    narrow = skew_check._stretches({0: marks}, START_MS + 40_000, START_MS + 44_000, SOURCE.lateness_ms)
    assert narrow == {0: (marks[7], 8)}, "one record of ten is read"
    source.close()


def test_marks_are_fine_where_it_is_new_and_never_far_apart():
    """So a pass reads little that it does not need, and the marks of a long topic stay few."""
    marks = [Mark()]
    for number in range(1, 10_001):
        skew_check._set_mark(marks, Mark(number * 700, number))
    offsets = [mark.next_offset for mark in marks]
    gaps = [after - before for before, after in itertools.pairwise(offsets)]
    assert offsets[-1] == 7_000_000
    assert max(gaps[-skew_check.FINE_MARKS + 2 :]) <= skew_check.MARK_RECORDS + 700
    assert max(gaps) <= skew_check.COARSE_MARK_RECORDS
    assert len(marks) < skew_check.FINE_MARKS + 2 * 7_000_000 / skew_check.COARSE_MARK_RECORDS


def test_each_kind_of_difference_is_counted_measured_and_told():
    report = SkewReport(model="m", features=[FeatureSkew(view="v", feature="x")])
    for served, recomputed in [(1.0, 1.0), (None, None), (3.0, 1.0), (None, 2.0), (2.0, None), (0.0, -0.0)]:
        report.compare("r", 7, [served], [recomputed])
    (item,) = report.features
    assert (item.equal, item.mismatched, item.missing, item.extra) == (2, 2, 1, 1)
    assert (report.checked, report.different, report.checked_until_ms) == (6, 4, 7)
    assert (item.distance_max, item.smape) == (2.0, 0.25)
    said = lines(report)
    assert "6 requests compared, 4 values differ" in said[0]
    assert "r at 7: x mismatched: served 3.0, recomputed 1.0" in said[2]


def test_texts_have_no_distance():
    report = SkewReport(model="m", features=[FeatureSkew(view="v", feature="x")])
    report.compare("r", 7, ["ok"], ["böse"])
    assert (report.features[0].mismatched, report.features[0].distance_max) == (1, 0.0)


def test_only_the_newest_differences_are_told(monkeypatch: pytest.MonkeyPatch):
    report = SkewReport(model="m", features=[FeatureSkew(view="v", feature="x")])
    for number in range(50):
        report.compare(f"r{number}", number, [1.0], [2.0])
    assert [difference.prediction_id for difference in report.differences] == [f"r{n}" for n in range(30, 50)]


def test_without_a_terminal_progress_is_a_line_for_each_quarter(capsys: pytest.CaptureFixture[str]):
    with command._Progress() as progress:
        for done in range(1, 101):
            progress.report("judging", done, 100)
    assert capsys.readouterr().err.splitlines() == [f"judging: {done} of 100" for done in (25, 50, 75, 100)]
