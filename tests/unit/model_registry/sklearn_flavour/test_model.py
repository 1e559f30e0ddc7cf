"""A scikit-learn model matches its declaration and its signature, or is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.model_registry.contract import ContractError
from services.model_registry.input_format import as_served
from services.model_registry.sklearn_flavour.model import SklearnModel, load, save
from services.retraining import calibration
from tests.unit.model_registry.installation import (
    classifier,
    columns,
    contract,
    rows,
)

LABELS = np.array(["high", "low", "middle"])


def line(labels: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(rows()[["x"]], labels)


def test_probabilities_come_in_the_declared_order_of_the_classes(tmp_path: Path):
    """The estimator sorts its classes by name; the declaration has low, middle, high."""
    labels = LABELS[pd.cut(rows()["x"], [-9, -0.5, 0.5, 9], labels=False).map({0: 1, 1: 2, 2: 0})]
    estimator = line(labels)
    model = SklearnModel(estimator, contract(tmp_path, "multiclass", ("x",)))
    found = model.predict(columns())
    assert np.array_equal(found, estimator.predict_proba(rows()[["x"]].head(3))[:, [1, 2, 0]])


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        (
            "multiclass",
            LABELS[[0, 1] * 100],
            "its classes are high, low, but model.yaml declares low, middle, high",
        ),
        (
            "binary",
            LABELS[[0, 1] * 100],
            "its classes are high, low, but a binary model needs the labels 0 and 1",
        ),
        ("binary", [0, 1, 2, 3] * 50, "its classes are 0, 1, 2, 3"),
        ("regression", [0, 1] * 100, "the task is regression, but its estimator LogisticRegression"),
    ],
)
def test_classes_that_are_not_the_declared_ones_are_refused(tmp_path: Path, task, labels, message):
    """A score of the wrong class looks like any other score."""
    with pytest.raises(ContractError, match=message):
        SklearnModel(line(labels), contract(tmp_path, task, ("x",)))


def test_task_and_kind_of_estimator_must_match(tmp_path: Path):
    """The error names task and estimator."""
    from sklearn.linear_model import LinearRegression

    estimator = LinearRegression().fit(rows()[["x"]], rows()["x"] * 2)
    model = SklearnModel(estimator, contract(tmp_path, "regression", ("x",)))
    assert np.allclose(model.predict(columns()), columns()["x"] * 2)
    with pytest.raises(ContractError, match="the task is binary, but its estimator LinearRegression"):
        SklearnModel(estimator, contract(tmp_path, "binary", ("x",)))


def test_inputs_go_to_the_model_in_the_order_of_its_signature(tmp_path: Path):
    """Whatever the order in which they are served."""
    estimator = classifier()
    given = SklearnModel(estimator, contract(tmp_path)).predict(columns())
    assert np.array_equal(given, estimator.predict_proba(rows().head(3))[:, 1])


def test_estimator_fitted_on_other_columns_than_its_signature_is_refused(tmp_path: Path):
    """Two columns of numbers, exchanged, would give numbers."""
    with pytest.raises(ContractError, match="fitted on the columns x, noise, but its signature has noise, x"):
        SklearnModel(classifier(), contract(tmp_path, names=("noise", "x")))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_calibration_that_a_retraining_has_made_is_loaded_as_it_was_saved(tmp_path: Path, task, method):
    """The types of its file are trusted without a setting."""
    labels = pd.cut(rows()["x"], [-9, -0.5, 0.5, 9], labels=False)
    target = (labels > 0).to_numpy(int) if task == "binary" else LABELS[labels]
    frame = rows()[["x"]]
    made = calibration.calibrated(line(target), method, frame, target)
    estimator = calibration.replace_estimator(made, line(target))
    loaded = seal_and_load(tmp_path, estimator, task)
    assert np.allclose(
        loaded.predict(columns()),
        SklearnModel(estimator, contract(tmp_path, task, ("x",))).predict(columns()),
    )


def seal_and_load(home: Path, estimator: Any, task: str) -> Any:
    known = contract(home, task, ("x",))
    folder = home / "saved"
    save(estimator, as_served(known.wanted), rows()[["x"]].head(3), folder, known.settings)
    return load(folder, known)
