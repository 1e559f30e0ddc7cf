"""Counts within segments that the reference describes."""

import numpy as np

from services.drift.binning.bin_counts import BinCounts
from services.drift.binning.segment_counts import SegmentCounts
from tests.unit.drift import scenario

REFERENCES = scenario.reference().features
RED = "colour=red"


def empty(**stored: list[int]) -> SegmentCounts:
    features = [BinCounts(each) for each in REFERENCES]
    return SegmentCounts(REFERENCES, features, {RED: stored.get("red", []), "colour=pink": []})


def test_only_segments_and_features_that_the_reference_describes_are_counted() -> None:
    counts = empty()
    counts.add(RED, np.array([[0, 0], [0, 0], [10, 0]]))
    counts.add("colour=pink", np.array([[0, 3]]))
    assert set(counts.counts) == {RED}
    (inside,) = counts.features(RED)
    assert inside.counted.name == "x"
    assert inside.counted.counts.tolist() == [2, *[0] * 9, 1]
    assert inside.reference.tolist() == [500] * 10 + [50]


def test_a_segment_without_rows_has_no_features() -> None:
    assert list(empty().features(RED)) == []
    assert list(empty().features("")) == []


def test_counts_continue_from_a_snapshot() -> None:
    counts = empty(red=[1] * 11)
    counts.add(RED, np.array([[5, 0]]))
    assert counts.counts[RED].tolist() == [*[1] * 5, 2, *[1] * 5]
