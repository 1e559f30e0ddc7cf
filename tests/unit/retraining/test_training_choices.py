"""What a training chooses on rows before the held-out days."""

from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline

from services.retraining import candidate
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
