"""Sums of numbers: exact, in any order and in any chunks."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.binning.value_sums import ValueSums, ValueSumsState

ROWS = st.lists(
    st.tuples(
        st.floats(-50, 50) | st.sampled_from([math.nan, 1e300, -1e9, math.inf]), st.floats(0.999, 1.001)
    ),
    max_size=40,
)
RANGES = [(-10.0, 10.0), (0.999, 1.0005)]


def sums_of(parts, *, stored=False):
    sums = ValueSums(RANGES)
    for part in parts:
        sums.add(np.array(part, dtype=float).reshape(-1, 2).T)
        if stored:
            states = msgspec.json.decode(msgspec.json.encode(sums.states()), type=list[ValueSumsState])
            sums = ValueSums(RANGES, states)
    return sums


@settings(max_examples=60)
@given(ROWS, st.integers(0, 40))
def test_parts_in_any_order_and_across_restarts_have_the_sums_of_the_whole(rows, cut):
    whole, parts = sums_of([rows]), sums_of([rows[cut:][::-1], rows[:cut]], stored=True)
    assert msgspec.json.encode(parts.states()) == msgspec.json.encode(whole.states())
    assert [parts.mean_and_deviation(number) for number in (0, 1)] == [
        whole.mean_and_deviation(number) for number in (0, 1)
    ]


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e12])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_mean_and_deviation_are_those_of_the_numbers_within_a_billionth_of_the_range(scale, offset):
    random = np.random.default_rng(1)
    values = (random.lognormal(0, 2, 5000) + offset) * scale
    low, high = np.quantile(values, [0.01, 0.99]).tolist()  # some are outside
    sums = ValueSums([(low, high)])
    sums.add(values[None, :])
    found = sums.mean_and_deviation(0)
    assert found is not None
    assert found.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-9 * (high - low))
    assert found.standard_deviation == pytest.approx(values.std(ddof=1), rel=1e-8)
    below, above = sums.tails(0)
    assert below is not None
    assert above is not None
    assert (below.lower[0], above.upper[-1]) == (values.min(), values.max())
    assert (below.counts.sum(), above.counts.sum()) == ((values < low).sum(), (values >= high).sum())


def test_missing_and_infinite_numbers_are_left_out():
    sums = ValueSums([(0.0, 1.0)])
    sums.add(np.array([[math.nan, math.inf, -math.inf, 0.25]]))
    assert sums.mean_and_deviation(0) == (0.25, None)
    assert sums.tails(0) == (None, None)


def test_a_constant_feature_and_one_without_edges_have_exact_means():
    sums = ValueSums([(7.0, float(np.nextafter(7.0, 8.0))), (0.0, 0.0)])
    sums.add(np.array([[7.0, 7.0, 9.0], [1.5, 2.5, 2.0]]))
    assert sums.mean_and_deviation(0) == pytest.approx((23 / 3, math.sqrt(4 / 3)))
    assert sums.mean_and_deviation(1) == pytest.approx((2.0, 0.5))


def test_without_numbers_there_are_no_figures():
    assert ValueSums(RANGES).mean_and_deviation(0) is None
