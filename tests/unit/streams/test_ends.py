"""First and last values: of numbers, bools and texts, in tiles and in stored ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ends import Firsts, Lasts
from streams.stored_arrays import ArrayReader

values = st.floats(-1e6, 1e6).map(lambda number: number + 0.0) | st.text("abü", max_size=4)
tiles_lists = st.lists(st.lists(st.tuples(st.integers(0, 9), values), max_size=3), max_size=6)


def cells_of(kind: type[Firsts | Lasts], tiles: list[list[tuple[int, float | str]]]) -> Firsts | Lasts:
    """Return cells in which the events of tile n are at ``10 * n`` milliseconds and later."""
    cells = kind()
    for index, events in enumerate(tiles):
        cells.insert(index)
        for after_ms, value in events:
            cells.add(index, value, 10 * index + after_ms)
    return cells


@pytest.mark.parametrize(("kind", "expected"), [(Firsts, 2.0), (Lasts, "x")])
def test_tiles_without_values_are_passed_over(kind: type[Firsts | Lasts], expected: float | str) -> None:
    cells = cells_of(kind, [[], [(5, 3.0), (1, 2.0)], [(0, "x")], []])
    assert cells.value(0, 4, 0.0) == expected
    assert math.isnan(float(cells.value(0, 1, 0.0)))


def test_the_larger_of_two_values_at_one_time_is_the_later_one() -> None:
    tie: list[tuple[int, float | str]] = [(3, 7.0), (3, -7.0)]
    assert cells_of(Firsts, [tie]).value(0, 1, 0.0) == -7.0
    assert cells_of(Lasts, [tie]).value(0, 1, 0.0) == 7.0


@pytest.mark.parametrize("kind", [Firsts, Lasts])
def test_bools_become_numbers(kind: type[Firsts | Lasts]) -> None:
    value = cells_of(kind, [[(0, True)]]).value(0, 1, 0.0)
    assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize("kind", [Firsts, Lasts])
@given(
    tiles=tiles_lists.map(
        lambda tiles: [[event for event in tile if isinstance(event[1], str)] for tile in tiles]
    )
)
def test_texts_are_read_back_and_give_the_same_value_in_every_window(
    kind: type[Firsts | Lasts], tiles: list[list[tuple[int, float | str]]]
) -> None:
    assert_stored_cells_are_equal(kind, tiles)


@pytest.mark.parametrize("kind", [Firsts, Lasts])
@given(
    tiles=tiles_lists.map(
        lambda tiles: [[event for event in tile if not isinstance(event[1], str)] for tile in tiles]
    )
)
def test_numbers_are_read_back_and_give_the_same_value_in_every_window(
    kind: type[Firsts | Lasts], tiles: list[list[tuple[int, float | str]]]
) -> None:
    assert_stored_cells_are_equal(kind, tiles)


def assert_stored_cells_are_equal(
    kind: type[Firsts | Lasts], tiles: list[list[tuple[int, float | str]]]
) -> None:
    cells = cells_of(kind, tiles)
    stored = kind.read(ArrayReader(cells.to_bytes(), 0, len(tiles)))
    assert stored.to_cells().to_bytes() == cells.to_bytes()
    windows = [(start, stop) for start in range(len(tiles) + 1) for stop in range(start, len(tiles) + 1)]
    starts, stops = np.array(windows).T
    for (start, stop), value in zip(windows, stored.values(starts, stops, 0.0).tolist(), strict=True):
        expected = cells.value(start, stop, 0.0)
        assert value == expected or (value != value and expected != expected)  # nan is not itself
