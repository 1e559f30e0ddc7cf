"""The open window of a model and the closed ones that late records may still change."""

import pytest

from services.drift.references import References
from services.drift.window_sequence import WindowSequence
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS


def new_windows(states=(None, ()), **monitoring):
    declaration = scenario.declaration(**monitoring)
    return WindowSequence(declaration, References([scenario.reference()], declaration), *states)


def test_windows_are_aligned_to_the_epoch():
    window = new_windows().open_at(START_MS + 5)
    assert (window.start_ms, window.end_ms) == (START_MS, START_MS + HOUR_MS)


def test_a_closed_window_takes_late_records_and_is_reported_again_once():
    windows = new_windows(lateness_hours=2)
    first = windows.open_at(START_MS)
    windows.close()
    windows.open_at(START_MS + HOUR_MS)
    assert windows.changed() == []
    assert windows.late(START_MS + 1, 1) is first
    assert windows.changed() == [first]
    assert windows.changed() == []


def test_a_window_without_records_is_made_for_a_late_one():
    windows = new_windows(lateness_hours=2)
    windows.open_at(START_MS + 2 * HOUR_MS)
    late = windows.late(START_MS + HOUR_MS + 1, champion=4)
    assert late is not None
    assert (late.start_ms, late.state.champion) == (START_MS + HOUR_MS, 4)


def test_a_record_later_than_the_lateness_changes_nothing():
    windows = new_windows(lateness_hours=2)
    windows.open_at(START_MS + 3 * HOUR_MS)
    assert windows.late(START_MS + HOUR_MS - 1, 1) is None


def test_a_window_keeps_the_version_that_was_chosen_first():
    windows = new_windows()
    window = windows.open_at(START_MS)
    windows.choose_version(window, 1)
    windows.choose_version(window, 2)
    assert window.state.version == 1
    assert window.row_binner is not None


def test_states_restore_the_open_and_the_closed_windows():
    windows = new_windows(lateness_hours=2)
    windows.choose_version(windows.open_at(START_MS), 1)
    windows.close()
    windows.open_at(START_MS + HOUR_MS)
    restored = new_windows(windows.states(), lateness_hours=2)
    assert restored.open is not None
    assert restored.open.start_ms == START_MS + HOUR_MS
    late = restored.late(START_MS, 1)
    assert late is not None
    assert late.state.version == 1
    assert late.row_binner is not None


def test_without_an_open_window_there_is_none_to_close():
    with pytest.raises(AssertionError, match="no window is open"):
        new_windows().close()
