"""The outcomes by which labelled predictions are counted."""

import msgspec
import numpy as np

from services.drift.performance import outcome_counts
from services.drift.performance.cohorts import LabelledRow, PredictionCohort
from services.drift.performance.outcome_counts import OutcomeCounter
from services.monitoring.model_metrics import Measures, NumericPrediction
from tests.unit.drift import scenario

HOUR_MS = 3_600_000


def of_classes(number):
    declared = scenario.declaration().model_copy(
        update={"task": "multiclass", "classes": tuple(f"c{index}" for index in range(number))}
    )
    return OutcomeCounter(Measures(declared))


def binary():
    return OutcomeCounter(Measures(scenario.declaration()))


def test_a_score_at_the_threshold_is_predicted_as_1():
    counter = binary()
    counts = counter.no_outcomes()
    counts[counter.outcome_of(NumericPrediction(0.5, 1.0), 0.0)] += 1
    positives, negatives = outcome_counts.by_label(counts)
    assert sum(positives) == 0
    assert negatives.index(1) == counter.thresholds.index(0.5) + 1


def test_classes_are_counted_by_label_and_prediction():
    counter = of_classes(3)
    counts = counter.no_outcomes()
    counts[counter.outcome_of(NumericPrediction(0.5, 2.0), 1.0)] += 4
    assert outcome_counts.by_class(counts, 3) == [[0, 0, 0], [0, 0, 4], [0, 0, 0]]


def test_counts_are_bounded():
    assert (of_classes(10).outcomes, of_classes(10).segment_outcomes) == (100, 100)
    assert (of_classes(11).outcomes, of_classes(11).segment_outcomes) == (121, 0)
    assert of_classes(65).outcomes == 0
    regression = scenario.declaration().model_copy(update={"task": "regression"})
    assert OutcomeCounter(Measures(regression)).outcomes == 0


def new_cohort(state=None):
    return PredictionCohort(
        0, HOUR_MS, 1, cells=0, measures=1, ranges=None, outcomes=(4, 0), state=state
    )  # fmt: skip


def rows(*outcomes):
    return [LabelledRow(["a"], 0, 0, 0, 1.0, [0.5], outcome) for outcome in outcomes]


def test_a_cohort_counts_outcomes_in_any_order_and_across_a_restart():
    whole, parts = new_cohort(), new_cohort()
    whole.add_labels(rows(0, 3, 3, 1))
    parts.add_labels(rows(3, 1))
    parts = new_cohort(msgspec.json.decode(msgspec.json.encode(parts.state()), type=type(parts.state())))
    parts.add_labels(rows(3, 0))
    assert whole.all.outcomes.tolist() == parts.all.outcomes.tolist() == [1, 1, 0, 2]
    assert not len(whole.segment("a").outcomes)


def test_a_cohort_whose_labels_an_older_version_has_counted_stays_without_outcomes():
    cohort = new_cohort()
    cohort.add_labels(rows(1))
    state = cohort.state()
    state.segments[""].outcomes = []
    restored = new_cohort(state)
    restored.add_labels(rows(1))
    assert restored.all.labels == 2
    assert restored.all.outcomes.tolist() == []
    assert np.array_equal(new_cohort(new_cohort().state()).all.outcomes, np.zeros(4))
