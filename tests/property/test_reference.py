"""Laws of the reference: whatever the data, every row is in exactly one bin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.retraining import evaluation, reference

numbers = st.lists(st.floats(allow_infinity=False, width=32), max_size=200)


@given(numbers)
def test_every_number_is_counted_once_between_rising_edges(values: list[float]):
    column = np.array(values, dtype=np.float64)
    made = reference.of_numbers("x", column)

    assert made.edges is not None
    assert sum(made.counts) + made.missing == len(values)
    assert made.missing == np.isnan(column).sum()
    assert len(made.counts) == len(made.edges) + 1 <= reference.BINS_MAX + 2
    assert all(low < high for low, high in zip(made.edges, made.edges[1:], strict=False))
    expected = [0] * len(made.counts)
    for value in column[~np.isnan(column)]:
        expected[sum(edge <= value for edge in made.edges)] += 1
    assert made.counts == expected


@given(st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=100))
def test_every_text_is_counted_under_its_own_name(values: list[str | None]):
    made = reference.of_categories("colour", np.array(values, dtype=object))

    assert made.categories is not None
    assert sum(made.counts) + made.missing == len(values)
    assert dict(zip(made.categories, made.counts, strict=True)) == {
        name: values.count(name) for name in set(values) if name is not None
    }


@given(st.integers(20, 400))
def test_bins_of_distinct_numbers_hold_equal_shares(rows: int):
    made = reference.of_numbers("x", np.random.default_rng(rows).permutation(rows).astype(np.float64))

    below, *inside, above = made.counts

    assert max(inside) - min(inside) <= 2
    assert below == above == 0


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50), st.integers(1, 10**6))
def test_held_out_rows_are_all_later_than_the_others(times: list[int], holdout_ms: int):
    array = np.array(times, dtype=np.int64)
    late = evaluation.held_out(array, holdout_ms)

    assert late.any()
    assert late.all() or array[~late].max() < array[late].min()
