import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from services.monitoring.model_metrics import Measures, NumericPrediction
from services.retraining.evaluation import calibration_error, evaluate, held_out, losses, measures
from services.runtime.declaration import DAY_MS, LOSSES, MEASURES
from tests.unit.retraining import task_models


def test_latest_days_are_held_out_and_nothing_earlier():
    times = np.array([0, 1, 2, 3, 10], dtype=np.int64) * DAY_MS

    assert held_out(times, 7 * DAY_MS).tolist() == [False, False, False, False, True]
    assert held_out(times, 8 * DAY_MS + 1).tolist() == [False, False, True, True, True]
    assert held_out(times[:0], DAY_MS).tolist() == []


def test_metrics_agree_with_scikit_learn():
    chance = np.random.default_rng(3)
    labels = chance.integers(0, 2, 500).astype(np.int8)
    scores = np.round(chance.random(500), 2)  # with ties
    found = evaluate(labels, scores)

    assert found.log_loss == pytest.approx(oracle.log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7)), abs=1e-6)
    assert found.auc == pytest.approx(oracle.roc_auc_score(labels, scores))
    assert found.brier == pytest.approx(oracle.brier_score_loss(labels, scores))
    assert found.accuracy == pytest.approx(oracle.accuracy_score(labels, scores >= 0.5))


def test_auc_of_one_class_is_no_metric():
    found = evaluate(np.ones(4, dtype=np.int8), np.full(4, 0.9))

    assert "auc" not in found.named()
    assert set(found.named("champion_")) == {"champion_log_loss", "champion_accuracy", "champion_brier"}


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50), st.integers(1, 10**6))
def test_held_out_rows_are_later_than_the_others(times: list[int], holdout_ms: int):
    array = np.array(times, dtype=np.int64)
    late = held_out(array, holdout_ms)

    assert late.any()
    assert late.all() or array[~late].max() < array[late].min()


@pytest.mark.parametrize("task", LOSSES)
def test_losses_of_a_row_are_those_of_monitoring(task: str):
    declaration = task_models.declaration(task)
    outputs, labels = task_models.rows(task, 50)
    found = losses(declaration, outputs, labels)
    monitored = Measures(declaration)

    assert tuple(found) == LOSSES[task]
    for row, label in enumerate(labels.tolist()):
        given = numeric(monitored, outputs[row])
        known = dict(zip(monitored.names, monitored.values(given, label), strict=True))
        assert {name: found[name][row] for name in found.keys() & known.keys()} == pytest.approx(
            {name: known[name] for name in found.keys() & known.keys()}
        )


def numeric(monitored: Measures, output: np.ndarray) -> NumericPrediction:
    if output.ndim:
        return NumericPrediction(output.max(), float(output.argmax()), output.tolist())
    return NumericPrediction(float(output), monitored.predicted_value(float(output)))


@pytest.mark.parametrize("task", MEASURES)
def test_rows_of_all_labels_have_every_measure_of_the_task(task: str):
    found = measures(task_models.declaration(task), *task_models.rows(task))

    assert set(found) == set(MEASURES[task])


def test_measures_of_classes_agree_with_scikit_learn():
    outputs, labels = task_models.rows("multiclass")
    found = measures(task_models.declaration("multiclass"), outputs, labels)
    predicted = outputs.argmax(axis=1)

    assert found["log_loss"] == pytest.approx(oracle.log_loss(labels, outputs), abs=1e-6)
    assert found["brier"] == pytest.approx(oracle.brier_score_loss(labels, outputs, scale_by_half=False))
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(labels, outputs, multi_class="ovr"))
    assert found["f1"] == pytest.approx(oracle.f1_score(labels, predicted, average="macro"))
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(labels, predicted))


def test_predictions_are_counted_at_the_declared_threshold():
    outputs, labels = task_models.rows("binary")
    found = measures(task_models.declaration("binary", threshold=0.8), outputs, labels)

    assert found["recall"] == pytest.approx(oracle.recall_score(labels, outputs >= 0.8))
    assert found["precision"] == pytest.approx(oracle.precision_score(labels, outputs >= 0.8))
    assert found["average_precision"] == pytest.approx(oracle.average_precision_score(labels, outputs))


def test_measures_of_a_regression_agree_with_scikit_learn():
    outputs, labels = task_models.rows("regression")
    found = measures(task_models.declaration("regression"), outputs, labels)

    assert found["r2"] == pytest.approx(oracle.r2_score(labels, outputs))
    assert found["rmse"] == pytest.approx(oracle.root_mean_squared_error(labels, outputs))
    assert found["absolute_error_p50"] == pytest.approx(oracle.median_absolute_error(labels, outputs))


def test_measures_that_rows_do_not_define_are_left_out():
    one_class = measures(task_models.declaration("binary"), np.full(4, 0.9), np.ones(4))
    two_classes = measures(
        task_models.declaration("multiclass"), np.full((4, 3), 1 / 3), np.array([0, 1, 0, 1])
    )
    constant = measures(task_models.declaration("regression"), np.ones(4), np.zeros(4))

    assert not {"auc", "average_precision"} & (one_class.keys() | two_classes.keys())
    assert "r2" not in constant
    assert one_class["accuracy"] == 1


def test_calibration_error_is_the_distance_of_predicted_and_realised_shares():
    scores = np.repeat([0.2, 0.8], 50)
    labels = np.tile([1.0, 0.0], 50)

    assert calibration_error(scores, labels) == pytest.approx(0.3)
    assert calibration_error(labels, labels) == 0
