"""Held-out rows of a candidate and a champion, for tests of gates."""

from typing import Any

import numpy as np

from services.retraining.gates import Evidence, HeldOut
from services.runtime.declaration import DAY_MS, Gates, ModelDeclaration
from tests.unit.retraining import task_models

DAYS, ROWS_A_DAY = 14, 200
COUNT = DAYS * ROWS_A_DAY
TIMES_MS = 1_700_000_000_000 + np.arange(COUNT, dtype=np.int64) * (DAY_MS // ROWS_A_DAY)


def declaration(task: str = "binary", segments: tuple[str, ...] = (), **gates: Any) -> ModelDeclaration:
    """Return a declaration with a floor that everything passes, and these gates."""
    return task_models.declaration(
        task, gates={"floor": 1000} | gates, monitoring={"segments": list(segments)}
    )


def gates_of(declared: ModelDeclaration) -> Gates:
    assert declared.gates is not None
    return declared.gates


def held_out(noise: float = 0.0, champion_noise: float | None = 0.0, seed: int = 1) -> HeldOut:
    """Return rows of two models that see the same signal; each adds noise to its logit."""
    random = np.random.default_rng(seed)
    logit = 1.5 * random.normal(size=COUNT)
    labels = (random.random(COUNT) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    outputs = [
        1 / (1 + np.exp(-(logit + each * random.normal(size=COUNT))))
        for each in (noise, champion_noise or 0.0)
    ]
    champion = None if champion_noise is None else outputs[1]
    colours = np.resize(np.array(["red", "green", "blue", None], dtype=object), COUNT)
    return HeldOut(labels, outputs[0], TIMES_MS, champion, {"shop": colours})


def evidence(rows: HeldOut | None = None, **others: Any) -> Evidence:
    return Evidence(rows or held_out(), **others)
