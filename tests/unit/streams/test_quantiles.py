"""Quantiles: within the stated error, the same however a window is cut into tiles."""

import math
import random
from collections.abc import Iterable, Sequence
from unittest import mock

import numpy as np
import pytest

from streams import quantiles
from streams.quantiles import BUCKETS_MAX, RELATIVE_ERROR, Quantiles
from streams.stored_arrays import ArrayReader

SHARES = (0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.999, 1.0)


def cells_of(*tiles: Iterable[float]) -> Quantiles:
    cells = Quantiles()
    for index, values in enumerate(tiles):
        cells.insert(index)
        for value in values:
            cells.add(index, value, 0)
    return cells


def exact(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share, method="inverted_cdf"))


def numbers(kind: str) -> list[float]:
    rng = random.Random(7)
    draw = {
        "prices": lambda: rng.lognormvariate(3, 2),
        "delays": lambda: rng.gauss(0, 40),
        "counts": lambda: float(rng.randrange(5)),
        "wide": lambda: rng.choice([-1, 1]) * 10 ** rng.uniform(-9, 9),
    }[kind]
    return [draw() for _ in range(2000)]


@pytest.mark.parametrize("kind", ["prices", "delays", "counts", "wide"])
def test_a_quantile_is_within_the_relative_error(kind: str) -> None:
    values = numbers(kind)
    cells = cells_of(values[:900], values[900:])
    for share in SHARES:
        expected = exact(values, share)
        assert abs(cells.value(0, 2, share) - expected) <= RELATIVE_ERROR * abs(expected)


@pytest.mark.parametrize("halvings", [1, 2, 6])
def test_more_powers_of_two_than_fit_double_the_error_each_time(halvings: int) -> None:
    values = [math.ldexp(1 + step / 64, power) for power in range(0, 64, 2) for step in range(64)]
    cells = cells_of(values)
    with mock.patch.object(quantiles, "BUCKETS_MAX", len(values) >> halvings):
        merged = cells.merged(cells.cells)
        assert merged.halvings == halvings
        for share in SHARES:
            error = abs(cells.value(0, 1, share) / exact(values, share) - 1)
            assert error <= RELATIVE_ERROR * 2**halvings


@pytest.mark.parametrize("cuts", [1, 3, 50])
def test_the_way_a_window_is_cut_into_tiles_changes_nothing(cuts: int) -> None:
    values = numbers("wide")[:300]
    with mock.patch.object(quantiles, "BUCKETS_MAX", 64):
        whole, cells = cells_of(values), cells_of(*(values[start::cuts] for start in range(cuts)))
        stored = Quantiles.read(ArrayReader(cells.to_bytes(), 0, cuts))
        for share in SHARES:
            served = stored.values(np.array([0, 0]), np.array([cuts, cuts]), share)
            assert served.tolist() == [whole.value(0, 1, share)] * 2
        cells.regroup(0, cuts, [range(cuts)])
        assert cells.to_bytes() == whole.to_bytes()


def test_a_tile_never_holds_more_buckets_than_fit() -> None:
    with mock.patch.object(quantiles, "BUCKETS_MAX", 4):
        assert cells_of([1.0, 2.0, 4.0, 8.0]).cells[0].halvings == 0
        assert len(cells_of([1.0, 2.0, 4.0, 8.0, 16.0]).cells[0].counts) <= 4


def test_even_the_widest_range_fits() -> None:
    ends = (5e-324, 2.3e-308, 1.0, 1.7e308)
    cells = cells_of(
        [sign * math.ldexp(1.5, power) for sign in (-1, 1) for power in range(-1022, 1024)], ends
    )
    assert len(cells.cells[0].counts) <= BUCKETS_MAX
    assert cells.value(1, 2, 0.0) == 0.0
    assert abs(cells.value(1, 2, 1.0) / 1.7e308 - 1) <= RELATIVE_ERROR


def test_of_no_values_there_is_no_quantile() -> None:
    assert math.isnan(cells_of([]).value(0, 1, 0.5))
