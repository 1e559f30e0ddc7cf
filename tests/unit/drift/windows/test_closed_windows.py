"""Which closed windows late records may change."""

import pytest

from services.drift.windows.closed_windows import ClosedWindows
from services.drift.windows.window import DriftWindow, DriftWindowState

HOUR_MS = 3_600_000
LATENESS_MS = 2 * HOUR_MS
OPEN_START_MS = 10 * HOUR_MS


def window(hour: int, *, is_touched: bool = False) -> DriftWindow:
    return DriftWindow(DriftWindowState(hour * HOUR_MS, (hour + 1) * HOUR_MS, is_touched=is_touched))


@pytest.fixture
def closed() -> ClosedWindows:
    windows = ClosedWindows(HOUR_MS, LATENESS_MS, [])
    for hour in (8, 9):
        windows.keep(window(hour))
    return windows


def starts(windows: list[DriftWindow]) -> list[int]:
    return [each.start_ms // HOUR_MS for each in windows]


def test_a_late_record_changes_its_window_once_per_report(closed: ClosedWindows) -> None:
    late = closed.open_late(9 * HOUR_MS + 1, OPEN_START_MS, champion=1)
    assert late is not None
    assert late.start_ms == 9 * HOUR_MS
    closed.open_late(8 * HOUR_MS, OPEN_START_MS, champion=1)
    assert starts(closed.changed()) == [8, 9]
    assert closed.changed() == []
    assert not late.state.is_touched


def test_a_record_beyond_the_lateness_is_too_late(closed: ClosedWindows) -> None:
    assert closed.open_late(8 * HOUR_MS, OPEN_START_MS, champion=1) is not None
    assert closed.open_late(8 * HOUR_MS - 1, OPEN_START_MS, champion=1) is None


def test_a_window_without_records_on_time_is_created_with_the_champion() -> None:
    empty = ClosedWindows(HOUR_MS, LATENESS_MS, [])
    late = empty.open_late(9 * HOUR_MS, OPEN_START_MS, champion=4)
    assert late is not None
    assert late.state.champion == 4
    assert starts(empty.changed()) == [9]


def test_windows_that_nothing_can_change_are_removed(closed: ClosedWindows) -> None:
    closed.remove_expired(11 * HOUR_MS)
    assert [state.start_ms // HOUR_MS for state in closed.states()] == [9]


def test_without_lateness_no_window_is_kept() -> None:
    windows = ClosedWindows(HOUR_MS, 0, [])
    windows.keep(window(9))
    assert windows.states() == []


def test_a_change_that_was_not_reported_survives_a_restart() -> None:
    restored = ClosedWindows(HOUR_MS, LATENESS_MS, [window(8), window(9, is_touched=True)])
    assert starts(restored.changed()) == [9]
