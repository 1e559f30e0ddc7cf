"""Cells by distance: bounded in number, narrow beside their distance, the same on every machine."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drift.binning.distance_cells import CELLS, CELLS_IN_OCTAVE, bounds_of, cells_of, unit_of

UNITS = [1.0, 2.0**-1000, 2.0**1000]


@given(st.floats(0, 1e308), st.sampled_from(UNITS))
def test_a_cell_holds_its_distance_and_is_a_sixteenth_of_it_at_most(distance, unit):
    cells = cells_of(np.array([distance]), unit)
    start, stop = (float(each[0]) for each in bounds_of(cells, unit))
    assert start <= distance
    assert distance < stop or stop == np.inf
    assert 0 <= cells[0] < CELLS
    if 0 < cells[0] < CELLS - 1 and stop < np.inf:
        assert stop - start <= start / CELLS_IN_OCTAVE * (1 + 1e-12)


def test_cells_rise_with_the_distance():
    distances = np.sort(np.random.default_rng(1).lognormal(0, 30, 2000))
    cells = cells_of(distances, 1.0)
    assert (np.diff(cells) >= 0).all()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1e300), (-1e308, 1e308), (0.0, 5e-324), (0.0, 0.0)])
def test_a_unit_is_finite_for_any_range(low, high):
    assert 0 < unit_of(low, high) <= 2.0**1000
