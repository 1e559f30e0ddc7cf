"""Model outputs become predictions by the declared task."""

import numpy as np
import pytest
from msgspec import UNSET

from services.scoring.outputs import InvalidOutputError, PredictionTask
from tests.unit.scoring.fakes import declaration

CLASSES = ["early", "on time", "late"]


def task(**changes):
    return PredictionTask(declaration(**changes))


def test_regression_predicts_its_score():
    columns = task(task="regression").predictions(np.array([-3.5]))
    assert (columns.scores, columns.predictions, list(columns.probabilities)) == ([-3.5], [-3.5], [UNSET])


def test_multiclass_predicts_the_most_probable_class_with_all_probabilities():
    columns = task(task="multiclass", classes=CLASSES).predictions(np.array([[0.2, 0.7, 0.1]]))
    assert (columns.scores, columns.predictions) == ([0.7], ["on time"])
    assert columns.probabilities == [[0.2, 0.7, 0.1]]


def test_binary_predicts_1_from_the_declared_threshold_on():
    columns = task(threshold=0.8).predictions(np.array([0.75, 0.8]))
    assert columns.predictions == [0, 1]
    assert columns.scores == [0.75, 0.8]


@pytest.mark.parametrize("changes", [{}, {"task": "multiclass", "classes": CLASSES}])
def test_rows_without_a_prediction_are_nan(changes):
    empty = task(**changes).empty(2)
    assert empty.shape == ((2, 3) if changes else (2,))
    assert np.isnan(empty).all()


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ([0.1, 0.2], r"the model returned the shape \(2,\), expected \(1,\)"),
        ([[0.1, 0.9]], r"the model returned the shape \(1, 2\), expected \(1,\)"),
        ([np.nan], "the model returned a value that is not a finite number"),
        ([np.inf], "the model returned a value that is not a finite number"),
        ([-1e200], "the model returned 1e\\+200; the absolute value must be at most 1e\\+60"),
    ],
)
def test_output_that_the_task_does_not_allow_is_an_error(outputs, text):
    with pytest.raises(InvalidOutputError, match=text):
        task().checked(outputs, 1)
