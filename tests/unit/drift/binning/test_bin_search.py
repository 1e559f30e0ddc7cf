"""The search gives the bins of bisection, for all edges and numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.binning.bin_search import EdgeSearch

numbers = st.floats(allow_nan=False, min_value=-1e308, max_value=1e308) | st.sampled_from([-np.inf, np.inf])
thorough = settings(max_examples=300)


@st.composite
def edges_and_values(draw):
    """Draw edges (evenly spread, crowded, subnormal, infinite) and values on, next to and between them."""
    near = st.integers(-60, 60).map(lambda whole: whole / 16)
    edges = np.unique(draw(st.lists(st.one_of(near, numbers), min_size=0, max_size=80)))
    beside = [*np.nextafter(edges, np.inf), *np.nextafter(edges, -np.inf)]
    values = [*edges, *beside, *draw(st.lists(st.one_of(near, numbers), max_size=50))]
    return edges, np.array(values, dtype=np.float64)


@thorough
@given(edges_and_values())
def test_bins_are_those_of_bisection(pair):
    edges, values = pair
    assert EdgeSearch(edges).bins(values).tolist() == np.searchsorted(edges, values, side="right").tolist()


def test_many_rows_are_searched_in_chunks():
    """More rows than are searched at once, as a strided column of a table."""
    values = np.random.default_rng(1).normal(size=(40_000, 3))[:, 1]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 65), method="inverted_cdf"))
    assert (EdgeSearch(edges).bins(values) == np.searchsorted(edges, values, side="right")).all()
