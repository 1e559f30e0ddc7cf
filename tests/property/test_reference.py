"""Laws of the reference: whatever the data, every row is in exactly one bin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.retraining import design_effect, evaluation, reference
from services.runtime.declaration import Monitoring

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


DAY_MS = 86_400_000


def days_of(values, rows_a_day=200, season=()):
    times_ms = np.arange(len(values)) * (DAY_MS // rows_a_day)
    return reference.of_column(
        "x", values, times_ms, season, design_effect.Blocks(times_ms, Monitoring().block_ms)
    )


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=100))
def test_seasons_together_are_the_whole(values: list[str | None]):
    made = days_of(np.array(values, dtype=object), rows_a_day=10, season=("weekday",))

    assert made.season == ["weekday"]
    sums = np.sum([[0] * (len(made.counts) + 1), *made.seasons.values()], axis=0)
    assert sums.tolist() == [*made.counts, made.missing]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.none() | st.floats(0, 9)), max_size=100))
def test_segments_together_are_the_whole_where_they_are_declared(rows):
    columns = [
        np.array([name for name, _ in rows], dtype=object),
        np.array([x for _, x in rows], dtype=float),
    ]
    made = [reference.of_categories("c", columns[0]), reference.of_numbers("x", columns[1])]
    c, x = reference.by_segment(made, columns, ["c"])

    assert c == made[0]
    assert set(x.segments) == {f"c={name}" for name in made[0].categories or ()}
    sums = np.sum([[0] * (len(x.counts) + 1), *x.segments.values()], axis=0)
    assert sums.tolist() == [*x.counts, x.missing]
    for name, count in zip(made[0].categories or (), made[0].counts, strict=True):
        assert sum(x.segments[f"c={name}"]) == count
    assert reference.by_segment(made, columns, []) == made


def test_design_effect_is_that_of_days_that_are_alike():
    """A quarter of the variance is the day's: D is 1 + 199 / 4, told from above."""
    random = np.random.default_rng(1)
    levels, own = random.normal(size=60).repeat(200), random.normal(size=60 * 200)

    assert 40 < days_of(levels / 2 + own * np.sqrt(0.75)).design_effect < 110
    assert 1 <= days_of(own).design_effect < 1.8


def test_season_takes_its_part_out_of_the_design_effect():
    """What differs from weekday to weekday alone is no reason to doubt a week."""
    weekdays = np.tile(np.arange(7), 10).repeat(200) + np.random.default_rng(2).normal(size=70 * 200)

    assert days_of(weekdays).design_effect > 50
    assert days_of(weekdays, season=("weekday",)).design_effect < 1.8


def test_values_that_are_alike_by_the_hour_count_so_although_the_days_even_out():
    """Every day runs from low to high."""
    hours = np.tile(np.arange(200.0), 40)

    assert days_of(hours).design_effect > 10


def test_one_row_says_nothing_of_a_design_effect():
    assert days_of(np.array([1.0])).design_effect == 1.0


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50), st.integers(1, 10**6))
def test_held_out_rows_are_all_later_than_the_others(times: list[int], holdout_ms: int):
    array = np.array(times, dtype=np.int64)
    late = evaluation.held_out(array, holdout_ms)

    assert late.any()
    assert late.all() or array[~late].max() < array[late].min()
