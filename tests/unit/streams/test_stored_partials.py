"""Partial aggregates as stored: one window and many windows give the same bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.aggregates import NUMBERS, Parts
from streams.partials import Partials
from streams.stored_arrays import ArrayReader
from streams.stored_partials import ScaledIntegers, StoredPartials
from tests.property.definition import Aggregation

PARTS = Parts.of(NUMBERS)
small = st.integers(-1000, 1000).map(lambda number: number / 8)
finite = st.floats(allow_nan=False, allow_infinity=False)
tiles_lists = st.lists(st.lists(small, max_size=3), max_size=6) | st.lists(
    st.lists(finite, max_size=3), max_size=6
)


def column_of(tiles: list[list[float]]) -> Partials:
    column = Partials(PARTS)
    for index, values in enumerate(tiles):
        column.insert(index)
        for value in values:
            column.add(index, value, 0)
    return column


def stored(tiles: list[list[float]]) -> StoredPartials:
    return StoredPartials(PARTS, ArrayReader(column_of(tiles).to_bytes(), 0, len(tiles)))


@given(tiles_lists)
def test_many_windows_have_the_values_of_single_ones_whether_numbers_are_small_or_wide(
    tiles: list[list[float]],
) -> None:
    windows = [(start, stop) for start in range(len(tiles) + 1) for stop in range(start, len(tiles) + 1)]
    starts, stops = np.array(windows).T
    column, added = stored(tiles), column_of(tiles)
    for function in NUMBERS:
        item = Aggregation("x", function, 0)
        together = column.values(item, starts, stops)
        np.testing.assert_array_equal(together, [column.value(item, *window) for window in windows])
        np.testing.assert_array_equal(together, [added.value(item, *window) for window in windows])


@given(tiles_lists)
def test_stored_tiles_become_tiles_for_adding_again(tiles: list[list[float]]) -> None:
    assert stored(tiles).to_partials(PARTS).to_bytes() == column_of(tiles).to_bytes()


@pytest.mark.parametrize("width", [0, 4, 12])
def test_a_width_that_is_no_whole_number_of_words_is_refused(width: int) -> None:
    header = (0).to_bytes(2, "little") + width.to_bytes(2, "little")
    with pytest.raises(ValueError, match=f"{width} bytes"):
        ScaledIntegers(ArrayReader(header + bytes(64), 0, 1))


def test_missing_bytes_are_an_error() -> None:
    raw = column_of([[1.0], [2.0]]).to_bytes()
    with pytest.raises(ValueError, match="missing"):
        StoredPartials(PARTS, ArrayReader(raw[:-1], 0, 2))
