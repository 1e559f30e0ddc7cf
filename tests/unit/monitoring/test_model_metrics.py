"""The measures of predictions, by task."""

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as oracle

from services.monitoring.model_metrics import (
    PROBABILITY_MIN,
    MeasureRange,
    Measures,
    NumericPrediction,
    log_loss,
    log_losses,
)
from services.runtime.declaration import ModelDeclaration
from tests.unit.drift import scenario


def measures(task: str = "binary", business: dict[str, Any] | None = None) -> Measures:
    document = scenario.document() | {"task": task}
    if task != "binary":
        del document["gates"], document["label"]["positive_above"]
    if task == "multiclass":
        document["classes"] = ["a", "b", "c"]
    if business:
        document["business"] = {"unit": "USD"} | business
    return Measures(ModelDeclaration.model_validate(document))


def test_measures_of_a_binary_model_equal_those_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    scores, labels = random.random(200), random.integers(0, 2, 200)
    subject = measures()
    found = [
        subject.values(NumericPrediction(score, subject.predicted_value(score)), float(label))
        for score, label in zip(scores.tolist(), labels.tolist(), strict=True)
    ]
    mean = dict(zip(subject.names, np.mean(found, axis=0), strict=True))
    answers = scores >= 0.5
    (_, false_positive), (false_negative, _) = oracle.confusion_matrix(labels, answers, normalize="all")
    assert mean["log_loss"] == pytest.approx(oracle.log_loss(labels, scores))
    assert mean["accuracy"] == pytest.approx(oracle.accuracy_score(labels, answers))
    assert mean["brier"] == pytest.approx(oracle.brier_score_loss(labels, scores))
    assert mean["false_positive"] == pytest.approx(false_positive)
    assert mean["false_negative"] == pytest.approx(false_negative)


def test_a_multiclass_loss_is_that_of_the_true_class() -> None:
    assert measures("multiclass").values(NumericPrediction(0.5, 1.0, [0.2, 0.5, 0.3]), 2.0) == [
        -math.log(0.3),
        0.0,
    ]
    assert measures("multiclass").values(NumericPrediction(0.5, 1.0, [0.2, 0.5, 0.3]), 1.0) == [
        -math.log(0.5),
        1.0,
    ]


def test_a_regression_has_a_bias_and_costs_by_direction() -> None:
    subject = measures("regression", {"over": 1, "under": 3})
    assert subject.names == ("absolute_error", "squared_error", "bias", "cost")
    assert subject.values(NumericPrediction(10.0, 10.0), 12.0) == [2.0, 4.0, -2.0, 6.0]
    assert subject.values(NumericPrediction(15.0, 15.0), 12.0) == [3.0, 9.0, 3.0, 3.0]
    assert subject.recorded_loss([2.0, 4.0, -2.0, 6.0]) == 4.0
    assert subject.ranges(None) is None
    assert subject.ranges(20) == [
        MeasureRange(0, 20),
        MeasureRange(0, 400),
        MeasureRange(-20, 20),
        MeasureRange(0, 60),
    ]


def test_costs_depend_on_the_predicted_and_the_true_class() -> None:
    costs = {"0": {"0": 0.0, "1": 25.0}, "1": {"0": 4.0, "1": -1.0}}
    subject = measures(business={"costs": costs})
    table = [
        [subject.values(NumericPrediction(0.5, answer), truth)[-1] for truth in (0.0, 1.0)]
        for answer in (0.0, 1.0)
    ]
    assert table == [[0.0, 25.0], [4.0, -1.0]]
    ranges = subject.ranges(None)
    assert ranges is not None
    assert ranges[-1] == MeasureRange(-1.0, 25.0)
    assert ranges[0].share(2.0) == 0.5


def test_a_multiclass_shadow_has_no_loss() -> None:
    assert measures("multiclass").loss_of_score(0.4, 1.0) is None
    assert measures().loss_of_score(0.5, 1.0) == pytest.approx(math.log(2))
    assert measures("regression").loss_of_score(4.0, 1.0) == 3.0


def test_the_loss_of_an_array_is_that_of_each_score_clipped_alike() -> None:
    scores, labels = np.array([0.0, 1.0, 0.8, 1e-9]), np.array([1.0, 0.0, 0.0, 1.0])
    expected = [log_loss(label, score) for label, score in zip(labels, scores, strict=True)]
    assert log_losses(labels, scores).tolist() == pytest.approx(expected, rel=1e-12)
    assert expected[0] == pytest.approx(-math.log(PROBABILITY_MIN))
