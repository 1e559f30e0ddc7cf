"""Distinct counts: exact for few, within the stated error for many, the same however they are cut."""

import math
from collections.abc import Iterable
from unittest import mock

import numpy as np
import pytest

from streams import distincts
from streams.distincts import EXACT_MAX, REGISTERS, Distincts
from streams.stored_arrays import ArrayReader


def cells_of(*tiles: Iterable[str | float]) -> Distincts:
    cells = Distincts()
    for index, values in enumerate(tiles):
        cells.insert(index)
        for value in values:
            cells.add(index, value, 0)
    return cells


def stored_value(cells: Distincts) -> float:
    tiles = len(cells.cells)
    stored = Distincts.read(ArrayReader(cells.to_bytes(), 0, tiles))
    return float(stored.values(np.array([0]), np.array([tiles]), 0.0)[0])


def test_few_values_are_counted_exactly() -> None:
    names = [f"merchant {number}" for number in range(EXACT_MAX)]
    assert cells_of(names, names[:7]).value(0, 2, 0.0) == EXACT_MAX


@pytest.mark.parametrize("size", [EXACT_MAX + 1, 3_000, 12_000, 40_000])
def test_many_values_are_estimated_within_four_standard_errors(size: int) -> None:
    cells = cells_of(range(size // 2), range(size // 3, size))
    value = cells.value(0, 2, 0.0)
    assert abs(value / size - 1) < 4 * 1.04 / math.sqrt(REGISTERS)
    assert value == stored_value(cells)


@pytest.mark.parametrize("cuts", [1, 2, 7, 600])
def test_the_way_a_window_is_cut_into_tiles_changes_nothing(cuts: int) -> None:
    values = [float(number) for number in range(700)]
    cells = cells_of(*(values[start::cuts] for start in range(cuts)))
    whole = cells_of(values)
    assert cells.value(0, cuts, 0.0) == whole.value(0, 1, 0.0) == stored_value(cells)
    cells.regroup(0, cuts, [range(cuts)])
    assert cells.to_bytes() == whole.to_bytes()


def test_the_estimate_is_right_on_average() -> None:
    with mock.patch.object(distincts, "EXACT_MAX", 0):
        errors = [
            cells_of(range(start, start + 400)).value(0, 1, 0.0) / 400 - 1 for start in range(0, 40_000, 400)
        ]
    assert abs(float(np.mean(errors))) < 0.002


def test_kinds_of_values_are_told_apart_but_not_signs_of_zero() -> None:
    assert cells_of([0.0, -0.0]).value(0, 1, 0.0) == 1
    assert cells_of([1, 2**53 + 1, 2**53]).value(0, 1, 0.0) == 3
    assert cells_of(["1", 1]).value(0, 1, 0.0) == 2


def test_written_hashes_are_the_same_in_every_version() -> None:
    assert cells_of(["böse"], [1], [0.5]).to_bytes().hex() == (
        "010001000100229dd1c422d0d21b4ac405fbb703440056f757e7dda05276"
    )
