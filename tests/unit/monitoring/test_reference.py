"""The reference: each row is in one bin, season and segment; scores and losses are of held-out rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring import design_effect, reference
from services.runtime.declaration import DAY_MS, Business, Monitoring
from tests.unit.retraining import training_data

COSTS = Business(unit="USD", costs={"0": {"0": 0, "1": 10}, "1": {"0": 3, "1": 0}})


def test_scores_and_losses_have_the_times_of_the_held_out_rows():
    """Fewer rows trained on than held out."""
    random = np.random.default_rng(1)
    columns = {
        "x": random.normal(size=100),
        "colour": np.array(["red", "blue"] * 50, dtype=object),
        "y": np.arange(100.0),
    }
    declared = training_data.declaration("monitoring", season={"x": ("weekday",)}, segments=("colour",))
    scores = random.random(300)
    labels = (random.random(300) < scores).astype(float)
    made = reference.build(
        3,
        reference.KnownRows(columns, np.arange(100) * DAY_MS),
        reference.KnownOutputs(scores, labels, np.arange(100, 400) * DAY_MS),
        declared.model_copy(update={"business": COSTS}),
        {"x": 0.25},
    )
    assert made.version == 3
    assert [each.feature for each in made.features] == ["x", "colour", "y"]
    assert len(made.features[0].seasons) == 7
    assert [each.importance for each in made.features] == [0.25, None, None]
    assert [set(each.segments) for each in made.features] == [set(), set(), {"colour=blue", "colour=red"}]
    assert sum(made.features[2].segments["colour=red"]) == 50
    assert made.pairs is not None
    assert (made.pairs.rows, len(made.pairs.products)) == (100, 6)
    assert made.score is not None
    assert sum(made.score.counts) == 300
    assert 1 <= made.loss_design_effect < 2
    labels, positives = np.array(made.score_sums["labels"]), np.array(made.score_sums["positives"])
    assert labels.tolist() == made.score.counts
    assert positives.sum() == pytest.approx(150, abs=40)
    assert made.measures["accuracy"] == sum(made.score_sums["accuracy"]) / 300
    share = made.measures["accuracy"]  # of independent rows; a design effect is an upper bound
    assert made.measure_errors["accuracy"] == pytest.approx(np.sqrt(share * (1 - share) / 300), rel=0.4)
    wrong = made.measures["false_positive"], made.measures["false_negative"]
    assert made.measures["cost"] == pytest.approx(3 * wrong[0] + 10 * wrong[1])


numbers = st.lists(st.floats(allow_infinity=False, width=32), max_size=200)


def days_of(values, rows_a_day=200, season=()):
    times_ms = np.arange(len(values)) * (DAY_MS // rows_a_day)
    return reference.of_column(
        "x", values, times_ms, season, design_effect.Blocks(times_ms, Monitoring().block_ms)
    )


@given(numbers)
def test_every_number_is_counted_once_between_rising_edges(values: list[float]):
    column = np.array(values, dtype=np.float64)
    built = reference.of_numbers("x", column)

    assert built.edges is not None
    assert sum(built.counts) + built.missing == len(values)
    assert built.missing == np.isnan(column).sum()
    assert len(built.counts) == len(built.edges) + 1 <= reference.BINS_MAX + 2
    assert all(low < high for low, high in zip(built.edges, built.edges[1:], strict=False))
    expected = [0] * len(built.counts)
    for value in column[~np.isnan(column)]:
        expected[sum(edge <= value for edge in built.edges)] += 1
    assert built.counts == expected


@given(st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=100))
def test_every_text_is_counted_under_its_own_name(values: list[str | None]):
    built = reference.of_categories("colour", np.array(values, dtype=object))

    assert built.categories is not None
    assert sum(built.counts) + built.missing == len(values)
    assert dict(zip(built.categories, built.counts, strict=True)) == {
        name: values.count(name) for name in set(values) if name is not None
    }


@given(st.integers(20, 400))
def test_bins_of_distinct_numbers_hold_equal_shares(rows: int):
    built = reference.of_numbers("x", np.random.default_rng(rows).permutation(rows).astype(np.float64))

    below, *inside, above = built.counts

    assert max(inside) - min(inside) <= 2
    assert below == above == 0


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=100))
def test_seasons_together_are_the_whole(values: list[str | None]):
    built = days_of(np.array(values, dtype=object), rows_a_day=10, season=("weekday",))

    assert built.season == ["weekday"]
    sums = np.sum([[0] * (len(built.counts) + 1), *built.seasons.values()], axis=0)
    assert sums.tolist() == [*built.counts, built.missing]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.none() | st.floats(0, 9)), max_size=100))
def test_segments_together_are_the_whole_where_they_are_declared(rows):
    columns = [
        np.array([name for name, _ in rows], dtype=object),
        np.array([x for _, x in rows], dtype=float),
    ]
    built = [reference.of_categories("c", columns[0]), reference.of_numbers("x", columns[1])]
    c, x = reference.by_segment(built, columns, ["c"])

    assert c == built[0]
    assert set(x.segments) == {f"c={name}" for name in built[0].categories or ()}
    sums = np.sum([[0] * (len(x.counts) + 1), *x.segments.values()], axis=0)
    assert sums.tolist() == [*x.counts, x.missing]
    for name, count in zip(built[0].categories or (), built[0].counts, strict=True):
        assert sum(x.segments[f"c={name}"]) == count
    assert reference.by_segment(built, columns, []) == built
