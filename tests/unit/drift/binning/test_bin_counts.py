"""Which bin a value is in, and what is counted."""

from typing import Any

import numpy as np
import pytest

from services.drift.binning import bin_counts
from services.drift.binning.bin_counts import BinCounts, FeatureBinner, numbers_of, seasonal_counts
from streams.records import FeatureReference
from tests.unit.drift.references import weekday_reference

COLOURS = FeatureReference(feature="c", counts=[1, 1], missing=0, categories=["red", "blue"])


def test_bins_hold_their_lower_edge():
    feature = BinCounts(FeatureReference(feature="x", counts=[1, 1, 1], missing=0, edges=[0.0, 1.0]))
    feature.add([-0.1, 0.0, 0.5, 1.0, 7, None, True])
    assert feature.counts.tolist() == [1, 2, 3, 1]


def test_text_in_a_numeric_feature_counts_as_missing():
    feature = BinCounts(FeatureReference(feature="x", counts=[1, 1], missing=0, edges=[0.0]))
    feature.add([1.0, "many", None])
    assert feature.counts.tolist() == [0, 1, 2]


def test_categories_match_by_their_text():
    feature = BinCounts(FeatureReference(feature="c", counts=[1, 1], missing=0, categories=["1", "y"]))
    feature.add([1, "y", "1", "x", None])
    assert feature.counts.tolist() == [2, 1, 1, 1]


def test_window_is_compared_with_its_own_season():
    reference = weekday_reference()
    feature = BinCounts(reference)
    assert seasonal_counts(reference, feature, {0: 300}).tolist() == pytest.approx(
        [1000, 0, 0, 0, 0, 0, 0, 0]
    )
    mixed = seasonal_counts(reference, feature, {0: 100, 1: 300})
    assert (mixed / mixed.sum()).tolist() == pytest.approx([0.25, 0.75, 0, 0, 0, 0, 0, 0])
    assert seasonal_counts(reference, feature, {9: 300}).sum() == 0


def test_season_that_the_reference_lacks_is_compared_with_nothing():
    reference = weekday_reference()
    assert seasonal_counts(reference, BinCounts(reference), {0: 100, 11: 1}).sum() == 0


def test_unseen_categories_are_counted_by_name_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bin_counts, "UNSEEN_NAMES_MAX", 2)
    feature = BinCounts(COLOURS)
    feature.add(["green", "red", "green", "black", "white"])
    assert feature.unseen == {"green": 2, "black": 1}
    assert feature.unseen_total == 4


def test_counts_continue_from_a_snapshot() -> None:
    before, after = BinCounts(COLOURS), BinCounts(COLOURS)
    before.add(["red", "green"])
    restored = BinCounts(COLOURS, before.counts.tolist(), before.unseen.items())
    restored.add(["green", None])
    after.add(["red", "green", "green", None])
    assert restored.counts.tolist() == after.counts.tolist()
    assert restored.unseen == after.unseen


def test_other_counts_leave_the_feature_unchanged() -> None:
    feature = BinCounts(COLOURS)
    other = feature.with_counts(np.array([9, 0, 0, 0]))
    other.add(["blue"])
    assert other.counts.tolist() == [9, 1, 0, 0]
    assert feature.counts.tolist() == [0, 0, 0, 0]


def test_values_are_out_of_range_only_where_the_outer_bins_of_the_reference_are_empty() -> None:
    inside = FeatureReference(feature="x", counts=[0, 5, 0], missing=0, edges=[0.0, 1.0])
    outside = FeatureReference(feature="x", counts=[1, 5, 0], missing=0, edges=[0.0, 1.0])
    for reference, expected in ((inside, (2, 1)), (outside, (0, 0))):
        feature = BinCounts(reference)
        feature.add([-1.0, -2.0, 0.5, 1.0])
        assert feature.out_of_range == expected


def test_reference_counts_get_a_bin_for_unseen_categories() -> None:
    assert FeatureBinner(COLOURS).with_unseen([3, 4, 5]) == [3, 4, 0, 5]
    numeric = FeatureReference(feature="x", counts=[1, 1], missing=0, edges=[0.0])
    assert FeatureBinner(numeric).with_unseen([3, 4, 5]) == [3, 4, 5]


def test_a_column_becomes_numbers_and_the_rest_nan() -> None:
    assert np.isnan(numbers_of(["a", None, 2, True])).tolist() == [True, True, False, False]
    assert numbers_of([1, 2.5]).tolist() == [1.0, 2.5]


def test_number_of_a_value_does_not_depend_on_its_neighbours():
    column: list[Any] = ["1.5", 0.5, "abc", 10**400, None]
    whole = numbers_of(column)
    alone = [numbers_of([value])[0] for value in column]
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(whole, [1.5, 0.5, np.nan, np.nan, np.nan])
