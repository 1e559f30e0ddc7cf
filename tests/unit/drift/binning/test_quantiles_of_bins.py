"""Quantiles from the counts in the bins of a reference."""

import numpy as np
import pytest

from services.drift.binning.distance_cells import Tail
from services.drift.binning.quantiles_of_bins import LEVELS, quantiles, reach_tails, share_below
from services.monitoring import reference as made


def counts_of(known, values):
    reference = made.of_numbers("x", known)
    edges = np.array(reference.edges)
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return counts, edges, np.array(reference.counts)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_a_quantile_is_off_by_at_most_the_width_of_its_bin(shift):
    random = np.random.default_rng(3)
    values = random.normal(shift, 1, 4000)
    counts, edges, reference = counts_of(random.normal(0, 1, 5000), values)
    above = Tail(edges[-1:], np.array([values.max()]), counts[-1:]) if counts[-1] else None
    found = quantiles(counts, edges, reference, (None, above))
    exact = np.quantile(values, LEVELS)
    bounds = np.array([edges[0], *edges, max(edges[-1], values.max())])
    widths = np.diff(bounds)[np.searchsorted(edges, exact, side="right")]
    assert (np.abs(found - exact) <= widths).all()
    assert np.abs(found[1:4] - exact[1:4]).max() < 0.02


def test_quantiles_of_frequent_values_are_these_values():
    known = np.repeat([0.0, 1.0, 5.0], [60, 30, 10])
    counts, edges, reference = counts_of(known, known)
    assert quantiles(counts, edges, reference) == [0.0, 0.0, 0.0, 1.0, 5.0]


def test_values_beyond_the_range_are_where_they_were_counted_and_else_at_its_end():
    counts, edges, reference = counts_of(np.linspace(0, 1, 100), np.full(10, 9.0))
    above = Tail(np.array([8.5, 20.0]), np.array([9.5, 30.0]), np.array([8, 2]))
    found = quantiles(counts, edges, reference, (None, above))
    assert all(8.5 <= each <= 9.5 for each in found[:4])
    assert 20 <= found[4] <= 30
    assert quantiles(counts, edges, reference) == [edges[-1]] * len(LEVELS)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([4, 92, 4], False), ([5, 92, 3], True), ([0, 94, 6], True), ([0, 95, 5], False), ([0, 0, 0], True)],
)
def test_tails_are_reached_by_a_quantile_or_not(counts, expected):
    assert reach_tails(np.array(counts)) == expected
    if any(counts) and not expected:
        edges, found = np.array([0.0, 1.0]), np.array(counts)
        far = Tail(np.array([50.0]), np.array([60.0]), found[-1:])
        near = Tail(np.array([-9.0]), np.array([-8.0]), found[:1])
        assert quantiles(found, edges, found, (near, far)) == quantiles(found, edges, found)


def test_without_numbers_there_are_no_quantiles():
    assert quantiles(np.zeros(3), np.array([0.0, 1.0]), np.ones(3)) == []
    assert share_below(np.zeros(3), np.array([0.0, 1.0]), 0.5) == 0.0


def test_a_share_below_a_value_is_interpolated():
    counts, edges = np.array([0, 10, 30, 0]), np.array([0.0, 0.5, 1.0])
    assert share_below(counts, edges, 0.25) == pytest.approx(0.125)
    assert share_below(counts, edges, 0.75) == pytest.approx(0.625)
    assert share_below(counts, edges, 1.0) == 1.0
