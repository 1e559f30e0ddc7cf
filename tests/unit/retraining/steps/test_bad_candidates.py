"""A candidate that must not go live is stopped by the gate that is there for it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.model_registry import loading
from services.retraining.gates import GateReport
from services.retraining.run_folder import GATES, RunFolder
from services.retraining.steps import data_steps, model_steps
from services.retraining.steps.definition import run_step
from services.runtime.declaration import DAY_MS
from services.runtime.settings import Settings
from tests.unit.retraining import runs, task_runs

SETTINGS = Settings(_env_file=None)
ONLY_CHAMPION = {"limits": {"log_loss": {"max": 5.0}}}


def failed(run: RunFolder) -> dict[str, str]:
    """Return by name of gate what the gates say that stopped the candidate."""
    for step in (data_steps.VALIDATE, model_steps.TRAIN, model_steps.EVALUATE, model_steps.GATE):
        run_step(step, run, SETTINGS)
    return {each.name: each.text for each in run.read(GATES, GateReport).results if each.outcome == "failed"}


def shuffled(task: str) -> Any:
    data = task_runs.rows(task)
    return task_runs.with_labels(data, np.random.default_rng(3).permutation(data.labels))


@pytest.mark.parametrize(
    ("task", "gate", "text"),
    [
        ("binary", "limit auc", "below the minimum of 0.8"),
        ("multiclass", "limit auc", "below the minimum of 0.8"),
        ("regression", "limit r2", "below the minimum of 0.5"),
    ],
)
def test_shuffled_labels_are_stopped_by_a_limit(task: str, gate: str, text: str, tmp_path: Path) -> None:
    found = failed(task_runs.extracted(tmp_path, task, shuffled(task)))
    assert text in found[gate]
    assert "leakage" not in found


def test_a_candidate_of_shuffled_labels_is_worse_than_the_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the last days are right: only those before were shuffled."""
    data = task_runs.rows("binary")
    labels = data.labels.copy()
    early = data.event_times_ms <= data.event_times_ms.max() - task_runs.HOLDOUT_DAYS * DAY_MS
    labels[early] = np.random.default_rng(3).permutation(labels[early])
    declared = task_runs.declaration("binary", gates=ONLY_CHAMPION)
    monkeypatch.setattr(loading, "load", lambda *_: runs.ByX())
    run = runs.extracted(
        tmp_path,
        declared,
        task_runs.with_labels(data, labels),
        training=task_runs.training("binary"),
        champion=3,
    )
    found = failed(run)
    assert set(found) == {"champion"}
    assert "log_loss" in found["champion"]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_feature_that_holds_the_label_is_stopped(task: str, tmp_path: Path) -> None:
    data = task_runs.rows(task)
    noise = np.random.default_rng(3).normal(size=len(data.labels)) * 1e-3
    leaking = dataclasses.replace(data, features=data.features.assign(x=data.labels + noise))
    found = failed(task_runs.extracted(tmp_path, task, leaking))
    assert set(found) == {"leakage"}
    assert "x: it alone tells the label almost perfectly" in found["leakage"]
    assert "take it out of features" in found["leakage"]


def test_a_candidate_that_treats_groups_unequally_is_stopped(tmp_path: Path) -> None:
    """The labels favour red: a model that learns them does, too."""
    data, random = task_runs.rows("binary"), np.random.default_rng(3)
    red = (data.features["colour"] == "red").to_numpy()
    latent = data.features["x"].to_numpy() + 2.0 * red - 1.0 + random.logistic(size=len(red)) / 4
    unequal = task_runs.with_labels(data, (latent > 0).astype(float))
    gates = {"limits": {"auc": {"min": 0.8}}, "fairness": {"groups": ["colour"], "minimum_rows": 50}}
    found = failed(task_runs.extracted(tmp_path, "binary", unequal, gates=gates))
    assert "fairness colour demographic_parity" in found
    assert all(name.startswith("fairness colour") for name in found)
    assert "for red" in found["fairness colour demographic_parity"]
    assert "at most 0.1 is allowed" in found["fairness colour demographic_parity"]
