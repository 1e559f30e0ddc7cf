"""An installation without servers: a home, a declaration, what its model is given, and rows of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from services.model_registry.contract import Contract
from services.model_registry.model_inputs import InputKind, Inputs
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

GIVEN: Inputs = {"x": InputKind.NUMBER, "colour": InputKind.TEXT, "noise": InputKind.NUMBER}


def settings(home: Path, **changes: Any) -> Settings:
    return Settings().model_copy(update={"home": home, **changes})


def declaration(task: str = "binary", **changes: Any) -> ModelDeclaration:
    declared = {
        "name": "m",
        "owner": "o",
        "team": "risk",
        "task": task,
        "classes": ["low", "middle", "high"] if task == "multiclass" else [],
        "request": {
            "topic": "requests",
            "id": "id",
            "event_time": "at",
            "schema": {"id": "string", "at": "timestamp", "x": "float", "colour": "string?"},
        },
        "features": {"service": "s", "from_request": ["x", "colour"]},
        "label": {
            "topic": "labels",
            "id": "id",
            "event_time": "at",
            "value": "y",
            "positive_above": 0 if task == "binary" else None,
            "horizon_hours": 1,
            "schema": {"id": "string", "at": "timestamp", "y": "float"},
        },
    }
    return ModelDeclaration.model_validate(declared | changes)


def contract(home: Path, task: str = "binary", names: tuple[str, ...] = ("x", "noise")) -> Contract:
    return Contract(settings(home), declaration(task), {name: GIVEN[name] for name in names})


def rows(count: int = 200) -> pd.DataFrame:
    """Numbers only; a few of the noise are missing."""
    chance = np.random.default_rng(1)
    frame = pd.DataFrame({"x": chance.normal(size=count), "noise": chance.normal(size=count)})
    frame.loc[::10, "noise"] = np.nan
    return frame


def classifier(labels: Any = None) -> Any:
    """Return trees, which take missing numbers, fitted on `rows`."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    frame = rows()
    wanted = (frame["x"] > 0).astype(int) if labels is None else labels
    return HistGradientBoostingClassifier(max_iter=5, random_state=1).fit(frame, wanted)


def columns(count: int = 3) -> dict[str, Any]:
    """Return the first inputs of `rows`, in another order than the classifier's."""
    return {name: rows()[name].to_numpy()[:count] for name in ("noise", "x")}
