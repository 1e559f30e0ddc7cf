"""What all kinds of cells share."""

import numpy as np

from streams.cells import evaluate_distinct
from streams.distincts import Distincts


def test_equal_windows_are_evaluated_once() -> None:
    asked: list[tuple[int, int]] = []

    def evaluate(start: int, stop: int) -> float:
        asked.append((start, stop))
        return float(stop - start)

    values = evaluate_distinct(np.array([0, 2, 0, 2]), np.array([3, 3, 3, 4]), evaluate)
    assert values.tolist() == [3, 1, 3, 2]
    assert sorted(asked) == [(0, 3), (2, 3), (2, 4)]


def test_no_windows_have_no_values() -> None:
    none = np.array([], dtype=np.int64)
    assert evaluate_distinct(none, none, lambda start, stop: 1.0).tolist() == []


def cells_of(*tiles: str) -> Distincts:
    cells = Distincts()
    for index, letters in enumerate(tiles):
        cells.insert(index)
        for letter in letters:
            cells.add(index, letter, 0)
    return cells


def test_regrouped_tiles_hold_the_values_of_their_group() -> None:
    cells = cells_of("a", "bc", "c", "d")
    cells.regroup(1, 4, [[1, 2], [3]])
    assert [cells.value(index, index + 1, 0.0) for index in range(3)] == [1, 2, 1]


def test_cleared_and_dropped_tiles_have_no_values() -> None:
    cells = cells_of("a", "bc", "c")
    cells.clear(1)
    cells.drop(1)
    assert [cells.value(index, index + 1, 0.0) for index in range(2)] == [0, 1]


def test_extending_copies_the_cells_of_the_other() -> None:
    cells, other = cells_of("a"), cells_of("b")
    cells.extend(other)
    cells.add(1, "c", 0)
    assert (cells.value(0, 2, 0.0), other.value(0, 1, 0.0)) == (3, 1)
