"""Which bins a report shows."""

import numpy as np
import pytest

from services.drift.binning.bin_counts import BinCounts
from services.drift.windows import report_bins
from streams.records import FeatureReference


def test_neighbours_are_merged_and_bins_out_of_range_stay_separate():
    edges = [float(edge) for edge in range(64)]
    reference = FeatureReference(feature="x", counts=[0, *[10] * 63, 0], missing=20, edges=edges)
    feature = BinCounts(reference)
    feature.add([-5.0, 0.5, 3.5, 62.9, 70.0, 71.0, None])
    found = report_bins.merged_bins(feature, feature.reference)
    assert found.edges == [*map(float, range(0, 64, 4)), 63.0]
    assert found.counts == [1, 2, *[0] * 14, 1, 2, 1]
    assert found.expected[0] == found.expected[-2] == 0
    assert sum(found.expected) == pytest.approx(1, abs=1e-5)
    assert found.expected[1] == pytest.approx(40 / 650, abs=1e-5)


@pytest.mark.parametrize("edges", [[], [0.0], [0.0, 1.0]])
def test_few_bins_are_not_merged(edges):
    reference = FeatureReference(feature="x", counts=[5] * (len(edges) + 1), missing=0, edges=edges)
    feature = BinCounts(reference)
    feature.add([-1.0, 0.5, 2.0])
    found = report_bins.merged_bins(feature, feature.reference)
    assert found.edges == edges
    assert found.counts == feature.counts.tolist()
    assert len(found.expected) == len(edges) + 2


def test_the_most_frequent_categories_of_either_sample_are_named():
    names = [f"c{number:02}" for number in range(30)]
    reference = FeatureReference(feature="c", counts=[*range(100, 130)], missing=1, categories=names)
    feature = BinCounts(reference)
    feature.add(["c00"] * 50 + ["c01", "unseen", "unseen"] + [None] * 3)
    found = report_bins.merged_bins(feature, feature.reference)
    assert found.categories is not None
    assert found.categories[0] == "c00", "rare in the reference, frequent now"
    assert "c01" not in found.categories
    assert found.categories[-2:] == [report_bins.OTHERS, report_bins.NEW]
    assert found.counts == [50, *[0] * (report_bins.BINS_MAX - 1), 1, 2, 3]
    assert sum(found.expected) == pytest.approx(1, abs=1e-4)


def test_without_a_reference_all_expected_shares_are_zero():
    reference = FeatureReference(feature="c", counts=[1, 1], missing=0, categories=["a", "b"])
    feature = BinCounts(reference)
    feature.add(["a"])
    found = report_bins.merged_bins(feature, np.zeros(4))
    assert set(found.expected) == {0}
    assert found.counts == [1, 0, 0, 0, 0]
