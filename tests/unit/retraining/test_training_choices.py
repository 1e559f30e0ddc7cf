"""What a training chooses on rows before the held-out days."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline

from services.retraining import candidate
from services.retraining.calibration import CalibrationChoice
from services.retraining.errors import InvalidDataError, RetrainingError
from services.retraining.training_choices import TrainingChoices, choose
from services.retraining.training_set import TrainingSet
from services.runtime.declaration import HOUR_MS
from tests.unit.retraining import task_runs

SEARCH = {"holdout_days": 6, "minimum_labels": 100, "search": {"trials": 4}}
FITTED: list[Any] = []


def before_held_out(task: str) -> TrainingSet:
    data = task_runs.rows(task)
    return data.take(candidate.split(data, task_runs.declaration(task)).trained)


def make(task: str) -> Any:
    names: dict[str, Any] = {}
    exec(task_runs.training(task).replace("C = 1.0", "C = 1e-5"), names)
    return names["estimator"]


def space(name: str) -> Any:
    return lambda trial: {name: trial.suggest_float(name, 0.001, 10, log=True)}


@pytest.mark.parametrize(
    ("task", "name"), [("binary", "line__C"), ("multiclass", "line__C"), ("regression", "line__alpha")]
)
def test_parameters_are_found_for_each_task(task: str, name: str) -> None:
    declared = task_runs.declaration(task, retraining=SEARCH)
    data = before_held_out(task)
    chosen = choose(data, declared, make(task), space(name))
    assert chosen.search is not None
    assert chosen.search.loss < chosen.search.default_loss
    assert chosen.search.trials == 4
    made = chosen.applied(make(task))(data.text, data.numeric)
    assert made.get_params()[name] == chosen.search.parameters[name] > 0.001
    assert chosen.named()["search_trials"] == 4
    assert chosen.named()[f"searched.{name}"] == chosen.search.parameters[name]
    assert choose(data, declared, make(task), space(name)) == chosen


def test_without_a_search_the_estimator_stays_as_it_is() -> None:
    function = make("binary")
    chosen = choose(task_runs.rows("binary"), task_runs.declaration("binary"), function, None)
    assert chosen == TrainingChoices()
    assert chosen.applied(function) is function
    assert chosen.named() == {}


class Noting(DummyClassifier):  # type: ignore[misc]  # scikit-learn has no types
    """Notes the x of the rows that it is fitted on and asked for, which are their event times here."""

    def fit(self, features: Any, labels: Any, sample_weight: Any = None) -> Any:
        FITTED.append([features[:, 0].max(), None, sample_weight])
        return super().fit(features, labels, sample_weight)

    def predict_proba(self, features: Any) -> Any:
        FITTED[-1][1] = features[:, 0].min()
        return super().predict_proba(features)


def test_folds_are_in_the_order_of_time_with_the_purge_and_the_declared_weights() -> None:
    data = before_held_out("binary")
    data.features["x"] = data.event_times_ms / HOUR_MS
    horizon_hours = task_runs.declaration("binary").label.horizon_ms / HOUR_MS
    declared = task_runs.declaration(
        "binary", retraining=SEARCH | {"search": {"trials": 1}, "class_weight": "balanced"}
    )

    def noting(_: Any, numeric: list[str]) -> Any:
        return Pipeline([("x", ColumnTransformer([("x", "passthrough", numeric)])), ("last", Noting())])

    FITTED.clear()
    choose(data, declared, noting, lambda _: {"last__strategy": "prior"})
    assert len(FITTED) == 2 * 3
    for trained_until, tested_from, weights in FITTED:
        assert trained_until + horizon_hours <= tested_from
        assert weights is not None
    assert sorted({each[1] for each in FITTED}) == [each[1] for each in FITTED[:3]]


def test_too_few_days_or_classes_for_the_folds_are_errors() -> None:
    data = before_held_out("binary")
    declared = task_runs.declaration("binary", retraining=SEARCH)
    one_class = task_runs.with_labels(data, (np.arange(len(data.rows)) > 1000).astype(float))
    with pytest.raises(
        InvalidDataError, match=r"rows of a fold of retraining\.search: there are .* 0 of the"
    ):
        choose(one_class, declared, make("binary"), space("line__C"))
    with pytest.raises(RetrainingError, match="too few for 3 folds"):
        choose(data.take(np.arange(len(data.rows)) < 5), declared, make("binary"), space("line__C"))


def changed(task: str) -> TrainingSet:
    """Return rows in which the label means the opposite before half of them."""
    data = task_runs.rows(task, days=30)
    x = data.features["x"].to_numpy()
    early = data.event_times_ms < data.event_times_ms[len(x) // 2]
    return dataclasses.replace(data, features=data.features.assign(x=np.where(early, -x, x)))


WINDOW = {"holdout_days": 6, "minimum_labels": 100, "window": "auto", "recent_days": 4}
CALIBRATION = {"holdout_days": 6, "minimum_labels": 100, "calibration": "auto"}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_rows_since_a_change_are_the_window(task: str) -> None:
    data, declared = changed(task), task_runs.declaration(task, retraining=WINDOW)
    change_ms = int(data.event_times_ms[len(data.rows) // 2])
    chosen = choose(data, declared, make(task), None, change_ms)
    assert chosen.window is not None
    assert (chosen.window.name, chosen.window.from_ms) == ("since_change", change_ms)
    assert chosen.named()["window"] == "since_change"
    assert chosen.named()["window_difference.since_change"] == chosen.window.differences["since_change"] < 0
    parts = chosen.windowed(candidate.split(data, declared), data)
    assert data.event_times_ms[parts.trained].min() == change_ms


def test_all_rows_are_the_window_of_a_stationary_stream() -> None:
    data = task_runs.rows("binary", days=30)
    declared = task_runs.declaration("binary", retraining=WINDOW)
    change_ms = int(data.event_times_ms[len(data.rows) // 2])
    found = choose(data, declared, make("binary"), None, change_ms).window
    assert found is not None
    assert (found.name, found.from_ms) == ("all", data.event_times_ms[0])
    assert found.differences.keys() == {"all", "recent", "since_change"}


def test_a_window_without_enough_rows_or_classes_is_not_compared() -> None:
    data = task_runs.rows("binary", days=30)
    change_ms = int(data.event_times_ms[len(data.rows) // 2])
    after = data.event_times_ms >= change_ms
    one_class = task_runs.with_labels(data, np.where(after & (np.arange(len(after)) < 1900), 1, data.labels))
    declared = task_runs.declaration("binary", retraining=WINDOW)
    found = choose(one_class, declared, make("binary"), None, change_ms).window
    assert found is not None
    assert found.differences.keys() == {"all"}
    found = choose(data.take(np.arange(len(after)) < 300), declared, make("binary"), None, change_ms).window
    assert found is not None
    assert (found.name, found.differences) == ("all", {})


def too_certain(_: Any, numeric: list[str]) -> Any:
    """Return an estimator that sees its feature six times and takes the six for independent."""
    columns = ColumnTransformer([(str(number), "passthrough", numeric) for number in range(6)])
    return Pipeline([("columns", columns), ("last", GaussianNB())])


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_probabilities_that_are_too_certain_are_calibrated(task: str) -> None:
    data = task_runs.rows(task, days=30)
    declared = task_runs.declaration(task, retraining=CALIBRATION)
    chosen = choose(data, declared, too_certain, None)
    assert chosen.calibration is not None
    assert chosen.method == chosen.calibration.method == chosen.named()["calibration"] == "sigmoid"
    assert chosen.named()["calibration_difference.sigmoid"] == chosen.calibration.differences["sigmoid"] < 0


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_probabilities_that_are_right_stay_as_they_are(task: str) -> None:
    names: dict[str, Any] = {}
    exec(task_runs.training(task), names)
    declared = task_runs.declaration(task, retraining=CALIBRATION)
    chosen = choose(task_runs.rows(task, days=30), declared, names["estimator"], None)
    assert chosen.calibration is not None
    assert chosen.method == "none"
    assert chosen.calibration.differences.keys() == {"sigmoid"}


def test_rows_that_are_too_few_for_the_folds_choose_no_calibration() -> None:
    data = task_runs.rows("binary")
    declared = task_runs.declaration("binary", retraining=CALIBRATION)
    few = choose(data.take(np.arange(len(data.rows)) < 5), declared, too_certain, None)
    assert few.calibration == CalibrationChoice("none", {})
    one_class = task_runs.with_labels(data, (np.arange(len(data.rows)) > 1000).astype(float))
    assert choose(one_class, declared, too_certain, None).calibration == CalibrationChoice("none", {})
