"""Scores and predicted classes are counted in the bins of the reference, those of some rows."""

import numpy as np

from services.drift.binning.binning import PredictionRows, RowBinner
from services.drift.windows.output_counts import OutputCounts
from streams.records import FeatureReference, Reference
from tests.unit.drift import scenario

REFERENCE = Reference(
    version=1,
    features=[],
    score=FeatureReference(feature="score", counts=[2, 2], missing=0, edges=[0.5]),
    log_loss=None,
    prediction=FeatureReference(feature="prediction", counts=[3, 1], missing=0, categories=["high", "low"]),
)


def counted(*indices: int) -> OutputCounts:
    rows = PredictionRows(
        [
            scenario.prediction(number, 0, score=score, prediction=name)
            for number, (score, name) in enumerate([(0.4, "low"), (0.9, "new"), (0.6, "high")])
        ]
    )
    binned = RowBinner(REFERENCE, scenario.declaration()).assign(rows)
    counts = OutputCounts(REFERENCE, {})
    counts.add(rows, binned, np.array(indices, dtype=np.intp))
    return counts


def test_the_given_rows_are_counted() -> None:
    counts = counted(0, 1)
    assert counts.score is not None
    assert counts.score.counts.tolist() == [1, 1, 0]
    assert counts.counts["prediction"].counts.tolist() == [0, 1, 1, 0]
    assert counts.counts["prediction"].unseen == {"new": 1}


def test_the_bin_that_differs_most_is_first() -> None:
    first = counted(0, 1).contributions("prediction")[0]
    assert (first.bin, first.expected_share, first.share) == ("high", 0.75, 0.0)
    assert counted().contributions("prediction") == []
    assert OutputCounts(None, {}).contributions("score") == []
    assert OutputCounts(None, {}).score is None


def test_counts_continue_from_a_snapshot() -> None:
    counts = counted(0, 1).counts["prediction"]
    restored = OutputCounts(REFERENCE, {"prediction": (counts.counts.tolist(), counts.unseen)})
    assert restored.counts["prediction"].counts.tolist() == [0, 1, 1, 0]
    assert restored.counts["prediction"].unseen == {"new": 1}
