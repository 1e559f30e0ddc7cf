"""A model of each task goes through all steps, from labelled rows to a registered version."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from services.model_registry import loading, mlflow_client
from services.retraining import candidate
from services.retraining.calibration import CalibrationChoice, uncalibrated
from services.retraining.evidence import Evaluation
from services.retraining.gates import GateReport
from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.run_folder import (
    CHOICES,
    EVALUATION,
    GATES,
    GIVEN_CHOICES,
    REFERENCE,
    REQUEST,
    RunFolder,
)
from services.retraining.steps import model_steps, pipeline, release_steps
from services.retraining.steps.definition import run_step
from services.retraining.training_choices import FoundParameters, TrainingChoices
from services.runtime.declaration import MEASURES
from services.runtime.settings import Settings
from streams.records import Reference
from tests.unit.retraining import runs, task_runs
from tests.unit.retraining.task_models import CLASSES

TASKS = ("binary", "multiclass", "regression")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> runs.MemoryRegistry:
    made = runs.MemoryRegistry()
    monkeypatch.setattr(mlflow_client, "connect", lambda _: made)
    return made


def released(run: RunFolder) -> RegisteredCandidate:
    settings = Settings(home=run.path.parent)
    for step in pipeline.STEPS[1:]:
        run_step(step, run, settings)
    return release_steps.announce(run, settings)


@pytest.mark.parametrize("task", TASKS)
def test_labelled_rows_become_a_registered_version(
    task: str, tmp_path: Path, registry: runs.MemoryRegistry
) -> None:
    run = task_runs.extracted(tmp_path, task)
    registered = released(run)
    assert (registered.version, registered.reasons) == (1, [])
    assert registry.aliases["champion"] == "1"
    found = run.read(EVALUATION, Evaluation)
    assert set(found.metrics) == set(MEASURES[task])
    assert registry.logged["cost"] == found.metrics["cost"]
    assert found.importances["x"] > found.importances["colour"] > 0
    gates = {each.name: each.outcome for each in run.read(GATES, GateReport).results}
    assert set(gates.values()) == {"passed"}
    assert {f"limit {name}" for name in task_runs.GATES[task]["limits"]} <= set(gates)
    drawn = "residuals" if task == "regression" else "classes"
    assert {f"plots/{name}.png" for name in ("importance", "segments", drawn)} <= set(registry.files)


@pytest.mark.parametrize("task", TASKS)
def test_the_reference_has_the_outputs_of_the_task(
    task: str, tmp_path: Path, registry: runs.MemoryRegistry
) -> None:
    run = task_runs.extracted(tmp_path, task)
    assert released(run).reference.version == 1
    reference = run.read(REFERENCE, Reference)
    assert [each.feature for each in reference.features] == ["x", "colour"]
    measured = run.read(EVALUATION, Evaluation).metrics
    known = {name for name in reference.measures if name in measured}
    assert known >= ({"absolute_error"} if task == "regression" else {"log_loss"})
    assert {name: reference.measures[name] for name in known} == pytest.approx(
        {name: measured[name] for name in known}
    )
    assert reference.log_loss == pytest.approx(measured.get("log_loss"))
    assert registry.ended == ["FINISHED"]


SPACE = """

def search_space(trial):
    return {"line__NAME": trial.suggest_float("NAME", 0.001, 10, log=True)}
"""


@pytest.mark.parametrize(("task", "name"), [("multiclass", "C"), ("regression", "alpha")])
def test_searched_parameters_are_those_of_the_version(
    task: str, name: str, tmp_path: Path, registry: runs.MemoryRegistry
) -> None:
    code = SPACE.replace("NAME", name)
    sections = {"holdout_days": task_runs.HOLDOUT_DAYS, "minimum_labels": 100, "search": {"trials": 3}}
    run = task_runs.extracted(tmp_path, task, code=code, retraining=sections)
    assert released(run).reasons == []
    found = run.read(CHOICES, TrainingChoices).search
    assert found is not None
    assert found.trials == 3
    expected = found.parameters.get(f"line__{name}", 1.0)
    assert model_steps.estimators(run).released.get_params()[f"line__{name}"] == expected
    assert registry.logged["search_trials"] == "3"
    assert "run/choices.json" in registry.files


def test_choices_that_are_given_are_taken(tmp_path: Path, registry: runs.MemoryRegistry) -> None:
    """A training is reproduced with the parameters of its run: a search by time finds others."""
    sections = {"holdout_days": task_runs.HOLDOUT_DAYS, "minimum_labels": 100, "search": {"trials": 3}}
    run = task_runs.extracted(
        tmp_path, "binary", code="\ndef search_space(trial): exit()", retraining=sections
    )
    given = FoundParameters(parameters={"line__C": 0.5}, loss=0.1, default_loss=0.2, trials=9)
    run.write(GIVEN_CHOICES, TrainingChoices(search=given))
    assert released(run).reasons == []
    assert run.read(CHOICES, TrainingChoices).search == given
    assert registry.logged["searched.line__C"] == "0.5"


class Constant:
    """A champion that gives each row the same output."""

    size_bytes = 0

    def __init__(self, task: str) -> None:
        self.output: Any = {
            "binary": 0.5,
            "multiclass": [1 / len(CLASSES)] * len(CLASSES),
            "regression": 0.0,
        }[task]

    def predict(self, columns: Any) -> Any:
        return np.array([self.output] * len(columns["x"]))


@pytest.mark.parametrize("task", TASKS)
def test_a_candidate_is_compared_with_the_champion(
    task: str, tmp_path: Path, registry: runs.MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_: Constant(task))
    run = runs.extracted(
        tmp_path,
        task_runs.declaration(task),
        task_runs.rows(task),
        training=task_runs.training(task),
        champion=3,
    )
    assert released(run).reasons == []
    gates = {each.name: each for each in run.read(GATES, GateReport).results}
    assert gates["champion"].outcome == "passed"
    assert registry.logged["driftline.champion"] == "3"


CERTAIN = """

def estimator(categorical, numeric):
    from sklearn.naive_bayes import GaussianNB

    columns = ColumnTransformer([(str(number), "passthrough", numeric) for number in range(6)])
    return Pipeline([("columns", columns), ("bayes", GaussianNB())])
"""
"""An estimator that sees its feature six times, and takes the six for independent: it is too certain."""


@pytest.mark.parametrize(("task", "refit"), [("binary", False), ("binary", True), ("multiclass", False)])
def test_a_calibrated_classifier_is_what_is_measured_and_registered(
    task: str, *, refit: bool, tmp_path: Path, registry: runs.MemoryRegistry
) -> None:
    """The version is loaded with the trusted types of scoring, and proved on its golden batch."""
    sections = {"holdout_days": task_runs.HOLDOUT_DAYS, "minimum_labels": 100, "refit": refit}
    data = task_runs.rows(task, days=36)
    losses = {}
    for calibration in ("none", "auto"):
        registry.versions.clear()
        declared = {**sections, "calibration": calibration}
        run = task_runs.extracted(tmp_path / calibration, task, data, CERTAIN, retraining=declared)
        released(run)
        losses[calibration] = run.read(EVALUATION, Evaluation).metrics["log_loss"]
    assert losses["auto"] < losses["none"] - 0.1
    assert run.read(CHOICES, TrainingChoices).method == "sigmoid"
    assert registry.logged["calibration"] == "sigmoid"
    assert registry.logged["estimator"] == "GaussianNB"
    for estimator in filter(None, model_steps.estimators(run)):
        assert type(estimator).__name__ == "CalibratedClassifierCV"
        assert type(uncalibrated(estimator)).__name__ == "Pipeline"


def test_a_given_calibration_is_taken(tmp_path: Path, registry: runs.MemoryRegistry) -> None:
    run = task_runs.extracted(tmp_path, "binary")
    run.write(GIVEN_CHOICES, TrainingChoices(calibration=CalibrationChoice("sigmoid", {})))
    released(run)
    assert type(model_steps.estimators(run).released).__name__ == "CalibratedClassifierCV"
    assert registry.logged["calibration"] == "sigmoid"


@pytest.mark.parametrize("refit", [False, True])
def test_rows_before_a_change_are_neither_trained_on_nor_in_the_reference(
    *, refit: bool, tmp_path: Path, registry: runs.MemoryRegistry
) -> None:
    """Before the change x means the opposite, and is larger by 100."""
    data = task_runs.rows("binary", days=36)
    change_ms = int(data.event_times_ms[900])
    x = data.features["x"].to_numpy()
    early = data.event_times_ms < change_ms
    data = dataclasses.replace(data, features=data.features.assign(x=np.where(early, 100 - x, x)))
    sections = {"holdout_days": 6, "minimum_labels": 100, "window": "auto", "refit": refit}
    run = task_runs.extracted(tmp_path, "binary", data, retraining=sections)
    run.write(REQUEST, msgspec.structs.replace(run.request, train_from_ms=change_ms))
    assert released(run).reasons == []
    assert (registry.logged["window"], registry.logged["window_from_ms"]) == ("since_change", str(change_ms))
    (bins,) = [each for each in run.read(REFERENCE, Reference).features if each.feature == "x"]
    assert bins.edges is not None
    assert bins.edges[-1] < 50
    parts = candidate.split(data, run.declaration)
    trained = run.read(CHOICES, TrainingChoices).windowed(parts, data).trained
    assert int(registry.logged["rows_trained"]) == (1500 if refit else np.count_nonzero(trained))
