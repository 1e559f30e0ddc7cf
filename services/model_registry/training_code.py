"""The functions that a model's own ``models/<name>/training.py`` defines."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

Make = Callable[[list[str], list[str]], Any]
"""From the names of text and of numeric features to an estimator that has learned nothing yet."""


class TrainingCodeError(RuntimeError):
    """A model's training.py lacks what its model.yaml asks for. The message names the file."""


def function_of(folder: Path, model: str, name: str) -> Make:
    """Return a function of a model's training.py; raise `TrainingCodeError` if there is none."""
    path = folder / model / "training.py"
    specification = importlib.util.spec_from_file_location(f"driftline_training_{model}", path)
    if not path.is_file() or specification is None or specification.loader is None:
        raise TrainingCodeError(f"{path}: no such file; it must define {name}(categorical, numeric)")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    found: Make | None = getattr(module, name, None)
    if found is None:
        raise TrainingCodeError(f"{path}: it must define {name}(categorical, numeric)")
    return found
