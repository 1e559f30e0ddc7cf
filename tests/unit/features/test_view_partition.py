"""The views of a partition: grouping by progress, and what is forgotten after an error."""

import pytest

from services.features.view_partition import ViewPartition, by_progress, forget_on_error
from services.features.view_progress import ViewPosition, ViewProgress
from tests.unit.features.fakes import FakeSink


def at(offset: int, watermarks_ms: dict[int, int] | None = None) -> ViewPartition:
    progress = ViewProgress(offset, watermarks_ms or {})
    return ViewPartition(FakeSink(), "source-3", 3, progress=progress)


def test_views_with_equal_offsets_and_watermarks_form_a_group_lowest_offset_first() -> None:
    behind, first, second, other = at(1), at(5, {0: 7, 1: 8}), at(5, {1: 8, 0: 7}), at(5, {0: 9, 1: 8})
    assert list(by_progress([other, first, behind, second])) == [[behind], [first, second], [other]]


def test_forgetting_keeps_the_offset_and_drops_progress_and_cache() -> None:
    sink = FakeSink()
    view = ViewPartition(sink, "source-3", 3, progress=ViewProgress(7))
    view.forget()
    view.forget()
    assert (view.progress, view.forgotten_at, sink.forgotten) == (None, 7, [3, 3])


def test_position_names_view_generation_and_progress() -> None:
    view = ViewPartition(FakeSink(), "source-3", 3, generation=9, progress=ViewProgress(7))
    assert view.position == ViewPosition("v", 9, "source-3", ViewProgress(7))


def test_unknown_progress_lags_by_all_records() -> None:
    unknown = ViewPartition(FakeSink(), "source-3", 3)
    assert (at(4).records_behind(10), unknown.records_behind(10)) == (6, 10)


def test_build_counts_its_records_and_wakes_waiters_when_it_ends() -> None:
    view = at(4)
    view.begin_build(10)
    caught_up = view.caught_up
    assert caught_up is not None
    assert (view.records_missing, caught_up.is_set()) == (6, False)
    view.end_build()
    assert (view.caught_up, caught_up.is_set()) == (None, True)


def test_views_are_forgotten_only_if_the_work_fails() -> None:
    views = [at(1), at(2)]
    with forget_on_error(views):
        pass
    assert [view.progress for view in views] == [ViewProgress(1), ViewProgress(2)]
    with pytest.raises(KeyboardInterrupt), forget_on_error(views):
        raise KeyboardInterrupt
    assert [view.progress for view in views] == [None, None]
