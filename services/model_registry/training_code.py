"""The functions that ``models/<name>/training.py`` of a model defines."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

MakeEstimator = Callable[[list[str], list[str]], Any]
"""Returns an unfitted estimator for the names of the text features and of the numeric features."""


class TrainingCodeError(RuntimeError):
    """A model's training.py lacks a function that its model.yaml needs. The message names the file."""


def function_of(folder: Path, model: str, name: str) -> MakeEstimator:
    """Return a function of a model's training.py; raise `TrainingCodeError` if there is none."""
    path = folder / model / "training.py"
    specification = importlib.util.spec_from_file_location(f"driftline_training_{model}", path)
    if not path.is_file() or specification is None or specification.loader is None:
        raise TrainingCodeError(
            f"{path} does not exist: create it with a function {name}(categorical, numeric)"
        )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    found: MakeEstimator | None = getattr(module, name, None)
    if found is None:
        raise TrainingCodeError(f"{path} has no function {name}(categorical, numeric): define it")
    return found
