"""Figures that follow from other sums."""

import pytest

from services.drift.performance import derived_figures
from services.drift.performance.cohorts import SegmentSums
from services.drift.performance.outcome_counts import OutcomeCounter
from services.monitoring.model_metrics import Measures, NumericPrediction
from streams import records
from tests.unit.drift import scenario

MEASURES = Measures(scenario.declaration())
COUNTER = OutcomeCounter(MEASURES)


def figures(rows=(), estimates=(), positives=None):
    sums = SegmentSums(0, len(MEASURES.names), outcomes=COUNTER.outcomes)
    for score, label in rows:
        sums.outcomes[COUNTER.outcome_of(NumericPrediction(score, 0.0), label)] += 1
    sums.estimates, sums.estimated_positives = list(estimates), positives
    found = derived_figures.classification_figures(sums, MEASURES, COUNTER)
    return {each.measure: each for each in found}


def test_precision_and_recall_of_class_1_have_intervals():
    found = figures([(0.9, 1), (0.8, 0), (0.5, 1), (0.2, 1), (0.1, 0)])
    assert found["precision"].realised == pytest.approx(2 / 3)
    assert found["recall"].realised == pytest.approx(2 / 3)
    assert found["f1"].realised == pytest.approx(2 / 3)
    assert found["recall"].low < 2 / 3 < found["recall"].high
    assert found["f1"].low is None


def test_estimates_follow_from_those_of_the_mistakes():
    estimates = dict.fromkeys(MEASURES.names, 0.0) | {"false_positive": 0.1, "false_negative": 0.05}
    found = figures([(0.9, 1)], list(estimates.values()), 0.25)
    assert found["precision"].estimated == pytest.approx(0.2 / 0.3)
    assert found["recall"].estimated == pytest.approx(0.2 / 0.25)
    assert found["f1"].estimated == pytest.approx(0.4 / 0.55)
    assert found["recall"].gap == pytest.approx(0.2)


def test_without_labels_nothing_is_realised():
    assert {each.realised for each in figures().values()} == {None}


def test_the_root_has_the_unit_of_the_label():
    squared = records.Figure(
        measure="squared_error", realised=4.0, low=-1.0, high=9.0, estimated=1.0, gap=3.0, running=16.0
    )
    root = derived_figures.root_of(squared)
    assert (root.measure, root.realised, root.low, root.high) == ("rmse", 2.0, 0.0, 3.0)
    assert (root.estimated, root.gap, root.running, root.running_low) == (1.0, 1.0, 4.0, None)
