"""Run folders of a model of each task: rows over twelve days whose label follows x and the colour."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from services.retraining.evaluation import Numbers
from services.retraining.run_folder import RunFolder
from services.retraining.training_set import TrainingSet
from services.runtime.declaration import DAY_MS, ModelDeclaration
from tests.unit.retraining import runs, task_models, training_data

ROWS = 2400
DAYS = 12
HOLDOUT_DAYS = 6
ESTIMATORS = {
    "binary": "LogisticRegression(C=C)",
    "multiclass": "LogisticRegression(C=C)",
    "regression": "Ridge(alpha=1 / C)",
}
TRAINING = """
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

C = 1.0


def estimator(categorical, numeric):
    colours = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("colour", colours, categorical), ("x", "passthrough", numeric)])
    return Pipeline([("columns", columns), ("line", ESTIMATOR)])
"""
GATES: dict[str, dict[str, Any]] = {
    "binary": {"limits": {"auc": {"min": 0.8}}},
    "multiclass": {"limits": {"auc": {"min": 0.8}, "f1": {"min": 0.5}}, "calibration": {"error_max": 0.1}},
    "regression": {"limits": {"r2": {"min": 0.5}, "bias": {"min": -0.2, "max": 0.2}}},
}


def training(task: str) -> str:
    """Return a training.py."""
    return TRAINING.replace("ESTIMATOR", ESTIMATORS[task])


def declaration(task: str, **sections: Any) -> ModelDeclaration:
    """Return a declaration for the features x and colour."""
    request = {
        "topic": "orders",
        "id": "id",
        "event_time": "at",
        "schema": {"id": "string", "at": "timestamp", "x": "float", "colour": "string?"},
    }
    given: dict[str, Any] = {
        "request": request,
        "features": {"from_request": ["x", "colour"]},
        "monitoring": {"segments": ["colour"]},
        "retraining": {"holdout_days": HOLDOUT_DAYS, "minimum_labels": 100},
        "gates": GATES[task],
    }
    return task_models.declaration(task, **given | sections)


def rows(task: str, seed: int = 1, days: int = DAYS) -> TrainingSet:
    """Return rows in which x and the colour tell much of the label, not all."""
    data, random = training_data.training_set(ROWS, seed=seed), np.random.default_rng(seed + 1)
    times_ms = training_data.NOW_MS - (days + 1) * DAY_MS + np.arange(ROWS) * (days * DAY_MS // ROWS)
    latent = 2 * data.features["x"].to_numpy() + (data.features["colour"] == "red").to_numpy()
    latent = latent + random.logistic(size=ROWS)
    return with_labels(data, _labels(task, latent), times_ms)


def with_labels(data: TrainingSet, labels: Numbers, times_ms: Any = None) -> TrainingSet:
    """Return the rows with other labels and, if they are given, times."""
    changed = {"label": labels}
    if times_ms is not None:
        changed |= {"event_time_ms": times_ms, "label_time_ms": times_ms + 60_000}
    return dataclasses.replace(data, rows=data.rows.assign(**changed))


def _labels(task: str, latent: Numbers) -> Numbers:
    if task == "regression":
        return latent
    if task == "binary":
        return (latent > 0).astype(np.float64)
    return np.searchsorted([-1.0, 1.0], latent).astype(np.float64)


def extracted(
    folder: Path, task: str, data: TrainingSet | None = None, code: str = "", **sections: Any
) -> RunFolder:
    """Return a folder that is ready for the step validate."""
    return runs.extracted(
        folder, declaration(task, **sections), data or rows(task), training=training(task) + code
    )
