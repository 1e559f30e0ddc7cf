"""Backfill of a view from the archive: lateness, time limit, errors, and files replaced atomically."""

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from services.feature_store.plan import (
    BatchFile,
    Column,
    FeatureAggregation,
    FeaturePlan,
    PlanError,
    ValueType,
    View,
    ViewKind,
)
from services.features.offline import backfill
from services.features.offline.archived_events import ArchiveError
from services.runtime.settings import Settings
from tests.unit.features.offline.archived_orders import (
    SOURCE,
    START_MS,
    OrderRecord,
    archive,
    heartbeat,
    order,
)


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


def no_report(step: str, done: int, total: int) -> None: ...


def rows_of(plan: FeaturePlan) -> list[tuple[float, float | None]]:
    """Return the file's rows as (seconds after the start, total), without the row that has no time."""
    assert plan.views[0].batch_file is not None
    columns = pq.read_table(plan.views[0].batch_file.path).to_pydict()
    return [
        (at.timestamp() - START_MS / 1000, total)
        for at, total in zip(columns["event_timestamp"], columns["total"], strict=True)
        if at is not None
    ]


def test_heartbeat_makes_an_event_late(settings: Settings, plan: FeaturePlan):
    archive(settings, order(0, 10), heartbeat(1, 40), order(2, 34), order(3, 36, amount=2.0))
    (result,) = backfill.run(settings, plan, no_report)
    assert (result.events, result.late, result.entities) == (2, 1, 1)
    assert rows_of(plan) == [(10, 1.0), (36, 3.0), (80, 2.0), (100, None)]


def test_events_and_changes_after_the_limit_are_left_out(settings: Settings, plan: FeaturePlan):
    archive(settings, order(0, 10), order(1, 30), order(2, 31), order(3, 32, shop=None))
    (result,) = backfill.run(settings, plan, no_report, until_ms=START_MS + 30_000)
    assert (result.events, result.rows, rows_of(plan)) == (2, 2, [(10, 1.0), (30, 2.0)])


def test_event_without_entity_and_invalid_record_are_counted(settings: Settings, plan: FeaturePlan):
    archive(settings, order(0, 10), order(1, 11, shop=None), OrderRecord(2, b"{"))
    (result,) = backfill.run(settings, plan, no_report)
    assert (result.events, result.no_entity, result.invalid) == (2, 1, 1)


def test_failed_backfill_keeps_the_old_file_and_leaves_no_other(
    settings: Settings, plan: FeaturePlan, tmp_path: Path
):
    def fail_while_writing(step: str, done: int, total: int) -> None:
        if step.startswith("writing"):
            raise ZeroDivisionError

    archive(settings, order(0, 10))
    backfill.run(settings, plan, no_report)
    before = rows_of(plan)
    with pytest.raises(ZeroDivisionError):
        backfill.run(settings, plan, fail_while_writing)
    assert rows_of(plan) == before
    assert {path.name for path in tmp_path.iterdir()} == {"home", "by_shop.parquet"}
    assert {path.name for path in settings.home.iterdir()} == {"archive"}


def test_views_that_share_a_file_or_have_none_are_refused_by_name(settings: Settings, plan: FeaturePlan):
    (view,) = plan.views
    twin = dataclasses.replace(view, name="by_twin")
    with pytest.raises(PlanError, match="by_shop, by_twin share"):
        backfill.run(settings, dataclasses.replace(plan, views=(view, twin)), no_report)
    without_file = dataclasses.replace(view, batch_file=None)
    with pytest.raises(PlanError, match=r"'by_shop': its batch source must be a FileSource"):
        backfill.run(settings, dataclasses.replace(plan, views=(without_file,)), no_report)


def test_batch_view_is_refused_by_name(settings: Settings, plan: FeaturePlan):
    (view,) = plan.views
    batch = dataclasses.replace(view, kind=ViewKind.BATCH, source=None)
    with pytest.raises(PlanError, match="view 'by_shop' is not a stream view"):
        backfill.run(settings, dataclasses.replace(plan, views=(batch,)), no_report, views=["by_shop"])


def test_missing_archive_is_an_error_that_says_what_to_do(settings: Settings, plan: FeaturePlan):
    with pytest.raises(ArchiveError, match="start the archive process"):
        backfill.run(settings, plan, no_report)


def test_progress_of_both_steps_is_reported_up_to_the_total(settings: Settings, plan: FeaturePlan):
    reported: list[tuple[str, int, int]] = []
    archive(settings, order(0, 10), order(1, 11, shop=None), order(2, 12))
    backfill.run(settings, plan, lambda *step: reported.append(step))
    assert reported == [("reading orders", 3, 3), ("writing by_shop", 2, 2)]
