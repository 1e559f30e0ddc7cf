"""Early labels as evidence: weighted by group, and only once enough labels of each group are known."""

import numpy as np
import pytest

from services.drift.performance.cohorts import SLOTS, LabelledRow, PredictionCohort
from services.drift.performance.early_losses import (
    DELAYS_MIN,
    early_losses,
    group_of,
    groups_of,
    mature_losses,
)
from services.drift.performance.label_maturity import LabelDelays
from services.monitoring.model_metrics import MeasureRange, Measures, NumericPrediction
from services.runtime.declaration import ModelDeclaration
from tests.unit.drift import scenario

HOUR_MS = 3_600_000
HORIZON_MS = 48 * HOUR_MS


def delays(*shares_by_group):
    """Delays of groups: ``(delay in hours, share)`` pairs for each."""
    found = []
    for shares in shares_by_group:
        each = LabelDelays(HORIZON_MS)
        for hours, share in shares:
            each.counts[each.cell_of(round(hours * HOUR_MS))] += round(share * 10 * DELAYS_MIN)
        found.append(each)
    return found


def cohort(*labels):
    """A cohort of an hour; labels are group and share of the loss."""
    made = PredictionCohort(0, HOUR_MS, 1, cells=0, measures=1, ranges=[MeasureRange(0, 1)], groups=2)
    made.add_predictions([(HOUR_MS * slot // SLOTS, 0.5, ()) for slot in range(SLOTS)] * 10, [])
    if labels:
        made.add_labels([LabelledRow((), 0, group, 0, 0.0, [loss]) for group, loss in labels])
    return made


FAST, HALF, SLOW = ((1, 1.0),), ((1, 0.55), (40, 0.45)), ((40, 1.0),)


def test_labels_of_a_group_that_is_half_known_count_twice():
    made = cohort(*[(0, 0.25)] * 100, *[(1, 0.75)] * 55)
    found = early_losses(made, delays(FAST, HALF), 0.5, 3 * HOUR_MS)
    assert found is not None
    assert found.labels == 155
    assert found.weights == pytest.approx(100 + 55 / 0.55, rel=0.01)
    assert found.losses / found.weights == pytest.approx(0.5, rel=0.01)
    assert found.weight_max == 2.0


@pytest.mark.parametrize("known", [delays(FAST, SLOW), delays(FAST, ((40, 0.05),)), delays(FAST, ())])
def test_a_cohort_is_too_early_while_a_group_is_mostly_missing_or_hardly_known(known):
    assert early_losses(cohort((0, 0.5), (1, 0.5)), known, 0.5, 3 * HOUR_MS) is None


def test_a_group_that_never_occurred_does_not_matter():
    assert early_losses(cohort((0, 0.5)), delays(FAST, ()), 0.5, 3 * HOUR_MS) is not None


def test_where_the_share_is_uncertain_weights_are_against_harm():
    """Delays of 10 to 40 hours in few cells: the share at an age is known up to a cell."""
    spread = [(hours, 1 / 31) for hours in range(10, 41)]
    made = cohort(*[(0, 0.75)] * 50, *[(1, 0.25)] * 50)
    found = early_losses(made, delays(spread, spread), 0.5, 30 * HOUR_MS)
    assert found is not None
    assert found.losses / found.weights < 0.5


def test_labels_that_a_mature_cohort_lacks_count_as_losses_of_0():
    found = mature_losses(cohort(*[(0, 0.5)] * 99), 0, 0.99)
    assert found is not None
    assert found.labels == 99
    assert found.weights == pytest.approx(100)
    assert found.losses == pytest.approx(49.5)
    assert mature_losses(cohort(), 0, 1.0) is None


def test_groups_are_classes_or_sides_of_the_prediction():
    measures = Measures(scenario.declaration())
    assert groups_of(measures) == 2
    assert [group_of(measures, NumericPrediction(0.4, 0.0), label) for label in (0.0, 1.0)] == [0, 1]
    document = scenario.document() | {"task": "regression"}
    del document["gates"], document["label"]["positive_above"]
    minutes = Measures(ModelDeclaration.model_validate(document))
    assert [group_of(minutes, NumericPrediction(4.0, 4.0), label) for label in (3.0, 5.0)] == [0, 1]


def test_groups_survive_a_restart():
    made = cohort((0, 0.5), (1, 0.25))
    state = made.state()
    restored = PredictionCohort(
        0, HOUR_MS, 1, cells=0, measures=1, ranges=[MeasureRange(0, 1)], groups=2, state=state
    )
    assert restored.state() == state
    assert np.array_equal(restored.group_sums, made.group_sums)
