"""Served values of batch views against the rows that the online store can have held."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature_store.plan import BatchFile, Column, Materialized, ValueType, View, ViewKind
from services.features.offline import materialized_rows
from services.features.offline.archived_events import ArchiveError
from services.features.offline.materialized_rows import (
    READING_MS,
    BatchLookup,
    MaterializationBounds,
)
from streams.records import FeatureValue

HOUR_MS = 3_600_000
FEATURES = (Column("width", ValueType.DOUBLE), Column("colour", ValueType.STRING))

Row = tuple[int, float | None, str | None]
"""Hour of the row's time, and its values."""


@pytest.fixture
def view(tmp_path: Path) -> View:
    """A view of desks without a file yet."""
    return View(
        name="facts",
        kind=ViewKind.BATCH,
        join_keys=(Column("desk", ValueType.INT64),),
        features=FEATURES,
        ttl_ms=0,
        batch_file=BatchFile(str(tmp_path / "facts.parquet"), "at"),
    )


def write(view: View, rows: Sequence[Row], desk: int = 1) -> None:
    """Write the rows of one desk."""
    assert view.batch_file is not None
    times = [dt.datetime.fromtimestamp(hour * 3600, dt.UTC) for hour, _, _ in rows]
    columns = {"width": [width for _, width, _ in rows], "colour": [colour for _, _, colour in rows]}
    frame = pd.DataFrame({"desk": desk, "at": pd.Series(times, dtype="datetime64[ns, UTC]"), **columns})
    frame.to_parquet(view.batch_file.path)


def until(*hours: int) -> Materialized:
    """Return consecutive materialisations, all done one minute after the last end."""
    ends = [hour * HOUR_MS * 1000 for hour in hours]
    return Materialized(tuple(zip([0, *ends[:-1]], ends, strict=True)), hours[-1] * HOUR_MS + 60_000)


def expected(
    view: View,
    written: Materialized,
    served: tuple[FeatureValue, ...],
    *,
    scored_hour: float,
    at_hour: float | None = None,
    desk: int = 1,
    seen: materialized_rows.Seen | None = None,
) -> tuple[FeatureValue, ...] | None:
    """Return what one request should have been served."""
    at_ms = round((scored_hour if at_hour is None else at_hour) * HOUR_MS)
    lookup = BatchLookup((desk,), at_ms, round(scored_hour * HOUR_MS), served)
    known = materialized_rows.record_seen([], written) if seen is None else seen
    with duckdb.connect() as connection:
        found = materialized_rows.recompute(connection, view, view.features, written, known, [lookup])
    return None if found is None else tuple(found[0])


def test_newest_written_row_is_expected(view: View) -> None:
    """A newer row of the file that no materialisation has written is not expected."""
    write(view, [(1, 1.0, "red"), (3, 3.0, None), (9, 9.0, "blue")])
    assert expected(view, until(2, 4), (0.0, "x"), scored_hour=6) == (3.0, None)


def test_row_newer_than_the_request_is_expected_if_it_was_in_the_store(view: View) -> None:
    """The online store has no history: a replay of old requests is served the current row."""
    write(view, [(1, 1.0, "red"), (3, 3.0, "blue")])
    assert expected(view, until(2, 4), (1.0, "red"), scored_hour=6, at_hour=2) == (3.0, "blue")


def test_old_row_is_a_mismatch_once_the_next_was_certainly_written(
    view: View,
) -> None:
    """Until the next materialisation is certainly done, both rows can have been served."""
    write(view, [(1, 1.0, "red"), (3, 3.0, "blue")])
    old, new, written = (1.0, "red"), (3.0, "blue"), until(2, 4)
    certainly_hour = (written.by_ms + READING_MS) / HOUR_MS
    assert expected(view, written, old, scored_hour=3.9, seen=[(1, 0)]) == old
    assert expected(view, written, new, scored_hour=3.9, seen=[(1, 0)]) == old, "it had not ended"
    assert expected(view, written, old, scored_hour=4) == old
    assert expected(view, written, new, scored_hour=4) == new
    assert expected(view, written, (7.0, "x"), scored_hour=4) == new, "the last of them"
    assert expected(view, written, old, scored_hour=certainly_hour) == new


def test_earlier_passes_narrow_the_rows_that_can_have_been_served(view: View) -> None:
    """Without earlier checks, each of the three rows can have been served in the fifth hour."""
    write(view, [(1, 1.0, "red"), (3, 3.0, "blue"), (5, 5.0, "grey")])
    written = until(2, 4, 6)
    assert expected(view, written, (1.0, "red"), scored_hour=5) == (1.0, "red")
    seen: materialized_rows.Seen = []
    for count in (2, 3):
        partly = Materialized(written.ranges_us[:count], (2 * count) * HOUR_MS + 60_000)
        seen = materialized_rows.record_seen(seen, partly)
    assert expected(view, written, (1.0, "red"), scored_hour=5, seen=seen) == (3.0, "blue")


def test_entity_without_a_row_has_no_values(view: View) -> None:
    """Neither has an entity whose row no materialisation has written yet."""
    write(view, [(5, 1.0, "red")])
    assert expected(view, until(2, 6), (1.0, "red"), scored_hour=9, desk=2) == (None, None)
    assert expected(view, until(2, 6), (1.0, "red"), scored_hour=4) == (None, None)
    assert expected(view, until(2, 6), (None, None), scored_hour=6) == (None, None)


def test_older_row_written_later_does_not_replace_the_newer_one(view: View) -> None:
    """Feast's online store refuses the older row; a repeated materialisation changes nothing either."""
    write(view, [(1, 1.0, "red"), (3, 3.0, "blue")])
    hours = [(2, 4), (0, 2), (0, 4)]
    ranges = tuple((start * HOUR_MS * 1000, end * HOUR_MS * 1000) for start, end in hours)
    assert expected(view, Materialized(ranges, 5 * HOUR_MS), (1.0, "red"), scored_hour=9) == (3.0, "blue")


def test_row_older_than_the_time_to_live_is_null(view: View) -> None:
    """The age is that at the time of the request, as for readers."""
    write(view, [(1, 1.0, "red")])
    mortal = dataclasses.replace(view, ttl_ms=HOUR_MS)
    assert expected(mortal, until(2), (None, None), scored_hour=9, at_hour=2) == (1.0, "red")
    assert expected(mortal, until(2), (1.0, "red"), scored_hour=9, at_hour=2.1) == (None, None)


def test_numbers_have_the_precision_of_the_feature_type(view: View, tmp_path: Path) -> None:
    """A Float32 is rounded on its way into the store, a Bool is a number in a prediction, NaN is null."""
    kinds = [ValueType.FLOAT, ValueType.BOOL, ValueType.DOUBLE, ValueType.INT64]
    features = tuple(Column(f"f{n}", kind) for n, kind in enumerate(kinds))
    at = pd.Series([dt.datetime.fromtimestamp(3600, dt.UTC)])
    pd.DataFrame(
        {"desk": [1], "at": at, "f0": [0.1], "f1": [True], "f2": [float("nan")], "f3": [7]}
    ).to_parquet(tmp_path / "facts.parquet")
    typed = dataclasses.replace(view, features=features)
    assert expected(typed, until(2), (0.0,) * 4, scored_hour=9) == (0.10000000149011612, 1.0, None, 7.0)


def test_missing_file_expects_nothing_and_a_wrong_file_is_named(view: View) -> None:
    """The check continues with the other views; a missing column is an error in the repository."""
    assert expected(view, until(2), (1.0, "red"), scored_hour=9) is None
    assert view.batch_file is not None
    pd.DataFrame({"desk": [1]}).to_parquet(view.batch_file.path)
    with pytest.raises(ArchiveError, match=r"view 'facts': batch source .*facts.parquet"):
        expected(view, until(2), (1.0, "red"), scored_hour=9)


def test_another_registry_clears_the_seen_materialisations() -> None:
    """A materialisation that is seen again keeps the time at which it was first seen."""
    seen = materialized_rows.record_seen([], until(2, 4))
    assert materialized_rows.record_seen(seen, Materialized(until(2, 4).ranges_us, 99)) == seen
    assert materialized_rows.record_seen(seen, until(3)) == [(1, 3 * HOUR_MS + 60_000)]


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=6),
    st.lists(st.integers(1, 20), max_size=4, unique=True).map(sorted),
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
)
def test_bounds_follow_from_range_ends_and_earlier_checks(
    ends_hours: list[int], checks_hours: list[int], scored_hours: list[int]
) -> None:
    """The expected bounds are a literal translation of the rule."""
    ranges = tuple((0, hour * HOUR_MS * 1000) for hour in ends_hours)
    seen = [(number, hour * HOUR_MS) for number, hour in enumerate(checks_hours, 1)]
    scored_ms = [hour * HOUR_MS for hour in scored_hours]
    found = materialized_rows.bounds(seen, Materialized(ranges, 0), scored_ms)
    for at_ms, bound in zip(scored_ms, found, strict=True):
        certain = max((count for count, by_ms in seen if by_ms + READING_MS <= at_ms), default=0)
        ended = [n for n, (_, end_us) in enumerate(ranges, 1) if end_us <= at_ms * 1000]
        assert bound == MaterializationBounds(certain, max([certain, *ended]))
