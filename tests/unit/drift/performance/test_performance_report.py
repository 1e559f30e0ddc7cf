"""The figures of a performance report, by segment and measure."""

import pytest

from services.drift.performance import performance_report
from services.drift.performance.cohorts import LabelledRow, PredictionCohort
from services.drift.performance.confidence_intervals import MeanConfidenceSequence
from services.monitoring.model_metrics import Measures
from tests.unit.drift import scenario

MEASURES = Measures(scenario.declaration())


def new_cohort(labels=(), *, ranges=True):
    cohort = PredictionCohort(
        0, 1000, 1, cells=2, measures=len(MEASURES.names), ranges=MEASURES.ranges(None) if ranges else None
    )
    cohort.add_predictions([(number, 0.7, ["colour=red"]) for number in range(4)], [0.5])
    if labels:
        values = [[0.5, float(right), 0.1, 0.0, 0.0] for right in labels]
        cohort.add_labels([LabelledRow([], 1, 0, 0, 1.0, each) for each in values])
    return cohort


def figures(cohort, running=None):
    whole = performance_report.segments_of(cohort, MEASURES, running or {})[0]
    return {each.measure: each for each in whole.figures}


def test_all_predictions_come_first_and_segments_follow_by_name():
    found = performance_report.segments_of(new_cohort(), MEASURES, {})
    assert [(each.segment, each.predictions, each.labels) for each in found] == [
        ("", 4, 0),
        ("colour=red", 4, 0),
    ]


def test_without_labels_nothing_is_realised():
    accuracy = figures(new_cohort())["accuracy"]
    assert (accuracy.realised, accuracy.low, accuracy.gap, accuracy.running) == (None, None, None, None)


def test_a_realised_mean_has_an_interval_and_a_gap_to_its_estimate():
    cohort = new_cohort([1, 1, 0, 1])
    cohort.all.estimates = [0.4, 0.7, 0.2, 0.0, 0.0]
    accuracy = figures(cohort)["accuracy"]
    assert accuracy.realised == 0.75
    assert accuracy.low < 0.75 < accuracy.high
    assert accuracy.gap == pytest.approx(0.05)


def test_without_ranges_there_is_no_interval():
    accuracy = figures(new_cohort([1, 0], ranges=False))["accuracy"]
    assert (accuracy.realised, accuracy.low) == (0.5, None)


def test_running_figures_are_in_the_unit_of_the_measure():
    running = [MeanConfidenceSequence() for _ in MEASURES.names]
    for each in running:
        each.add(1000, 250.0, 62.5)
    loss = figures(new_cohort([1]), {"": running})["log_loss"]
    assert loss.running == pytest.approx(1.0)  # a quarter of the range from 0 to 4
    assert loss.running_low < 1.0 < loss.running_high


def test_the_area_under_the_curve_is_a_figure_of_binary_models_over_all_predictions():
    cohort = new_cohort()
    rows = [LabelledRow(["colour=red"], cell, 0, 0, float(cell), [0.5] * 5) for cell in (0, 1, 1)]
    cohort.add_labels(rows)
    whole, red = performance_report.segments_of(cohort, MEASURES, {})
    assert whole.figures[-1].measure == red.figures[-1].measure == "auc"
    assert (whole.figures[-1].realised, red.figures[-1].realised) == (1.0, None)
