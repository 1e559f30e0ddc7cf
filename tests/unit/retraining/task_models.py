"""Declarations of each task, and rows with outputs, for tests of measures and gates."""

from typing import Any

import numpy as np

from services.retraining.evaluation import Numbers
from services.runtime.declaration import ModelDeclaration
from tests.unit.runtime.test_declaration import document

CLASSES = ["a", "b", "c"]
COSTS: dict[str, dict[str, Any]] = {
    "binary": {"costs": {0: {0: 0, 1: 30}, 1: {0: 10, 1: 0}}},
    "multiclass": {"costs": {each: {other: float(each != other) for other in CLASSES} for each in CLASSES}},
    "regression": {"over": 1, "under": 2},
}


def declaration(task: str = "binary", **sections: Any) -> ModelDeclaration:
    """Return a declaration with costs; sections replace or extend it."""
    label: dict[str, Any] = document()["label"] | {"positive_above": 1 if task == "binary" else None}
    changes = {"task": task, "label": label, "business": {"unit": "euro", **COSTS[task]}}
    if task == "multiclass":
        changes["classes"] = CLASSES
        label["schema"] = label["schema"] | {"days": "string"}
    return ModelDeclaration.model_validate(document(**changes | sections))


def rows(task: str, count: int = 600, seed: int = 1) -> tuple[Numbers, Numbers]:
    """Return outputs and labels of a model that is calibrated and of some use."""
    random = np.random.default_rng(seed)
    latent = random.normal(size=count)
    if task == "regression":
        return latent, latent + random.normal(size=count)
    if task == "binary":
        scores = 1 / (1 + np.exp(-1.5 * latent))
        return scores, (random.random(count) < scores).astype(np.float64)
    weights = np.exp(random.normal(size=(count, len(CLASSES))))
    outputs = weights / weights.sum(axis=1, keepdims=True)
    labels = (random.random((count, 1)) > outputs.cumsum(axis=1)).sum(axis=1)
    return outputs, np.minimum(labels, len(CLASSES) - 1).astype(np.float64)
