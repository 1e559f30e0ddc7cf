"""Where sessions begin, in tiles that are added to and in stored ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.sessions import Extents, StoredExtents
from streams.stored_arrays import ArrayReader

GAP_MS = 20


def extents_of(times_ms: list[int]) -> Extents:
    """Return one tile for each time."""
    extents = Extents()
    for index, time_ms in enumerate(times_ms):
        extents.insert(index)
        extents.add(index, time_ms)
    return extents


def stored(extents: Extents) -> StoredExtents:
    return StoredExtents.read(ArrayReader(extents.to_bytes(), 0, len(extents.cells)))


def test_a_tile_extends_from_its_first_event_to_its_last() -> None:
    extents = extents_of([30])
    for time_ms in (50, 10, 40):
        extents.add(0, time_ms)
    assert extents.cells == [(10, 50)]


def test_a_session_goes_on_until_a_pause_is_longer_than_the_gap() -> None:
    extents = extents_of([0, 20, 41, 61])
    assert extents.newest_session_start(GAP_MS) == 2
    assert extents.newest_session_start(GAP_MS + 1) == 0
    assert extents_of([]).newest_session_start(GAP_MS) == 0


def test_no_session_is_open_once_the_gap_has_passed_and_before_the_first_event() -> None:
    times_ms = np.array([-1, 0, 20, 40, 41, 61, 81, 82])
    stops = np.array([0, 1, 2, 2, 3, 4, 4, 4])
    starts = stored(extents_of([0, 20, 41, 61])).session_starts(stops, times_ms, GAP_MS)
    assert starts.tolist() == [0, 0, 0, 0, 2, 2, 2, 4]


@given(st.lists(st.integers(0, 500), min_size=1, max_size=30).map(sorted))
def test_stored_extents_find_the_newest_session_too(times_ms: list[int]) -> None:
    extents = extents_of(times_ms)
    found = stored(extents).session_starts(np.array([len(times_ms)]), np.array([times_ms[-1]]), GAP_MS)
    assert found.tolist() == [extents.newest_session_start(GAP_MS)]
    assert stored(extents).to_cells().cells == extents.cells
