"""Which values are missing, new, rare, below or above those of a reference."""

import numpy as np

from services.monitoring import reference, value_kinds
from services.monitoring.value_kinds import kinds_in_segment, kinds_of
from streams.records import FeatureReference, IndicatorReference


def numbers(*values):
    return reference.of_numbers("x", np.array(values, dtype=float))


def test_numbers_are_missing_or_out_of_range():
    kinds = kinds_of(numbers(1.0, 2.0, 3.0))
    assert kinds.names == ("missing", "below", "above")
    assert kinds.of_bin.tolist() == [2, 0, 0, 0, 3, 1]
    assert kinds.rows == 3


def test_numbers_whose_outer_bins_are_used_have_no_range():
    kinds = kinds_of(FeatureReference(feature="x", counts=[5, 5], missing=1, edges=[0.0]))
    assert kinds.names == ("missing",)
    assert kinds.of_bin.tolist() == [0, 0, 1]


def test_a_number_is_new_where_all_were_missing():
    kinds = kinds_of(numbers(np.nan, np.nan))
    assert kinds.names == ("missing", "new")
    assert kinds.references[0].rows == 2


def test_categories_are_rare_if_together_they_have_a_small_share():
    known = FeatureReference(
        feature="c", counts=[10_000, 3, 400, 1], missing=0, categories=["a", "b", "c", "d"]
    )
    kinds = kinds_of(known)
    assert kinds.names == ("missing", "rare", "new")
    assert kinds.of_bin.tolist() == [0, 2, 0, 2, 3, 1]
    assert value_kinds.rows_of_rare(np.array(known.counts)) == 3 + 1 + 2


def test_a_reference_without_indicators_has_bounded_design_effects_but_for_the_range():
    known = FeatureReference(feature="x", counts=[0, 9, 0], missing=1, edges=[0.0, 1.0], design_effect=900.0)
    missing, below, above = kinds_of(known).references
    assert missing == IndicatorReference(rows=1, design_effect=64)
    assert below == above == IndicatorReference(rows=0, design_effect=900)


def test_in_a_segment_missing_values_are_counted_and_all_others_may_be_in_it():
    known = FeatureReference(
        feature="c",
        counts=[10_000, 3, 400, 1],
        missing=20,
        categories=["a", "b", "c", "d"],
        segments={"s=1": [100, 0, 0, 0, 5]},
    )
    missing, rare, new = (each.rows for each in kinds_of(known).references)
    assert missing == 20
    counted = kinds_in_segment(known, "s=1", 105)
    assert counted.rows == 105
    assert [each.rows for each in counted.references] == [5, rare, new]
    assert [each.rows for each in kinds_in_segment(known, "s=2", 4).references] == [4, 4, 1]
