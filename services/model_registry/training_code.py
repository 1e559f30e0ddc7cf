"""The functions that ``models/<name>/training.py`` of a model defines."""

import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIGNATURES = {"search_space": "search_space(trial)"}
"""How functions are called that take other arguments than those of `MakeEstimator`."""
MakeEstimator = Callable[[list[str], list[str]], Any]
"""Returns an unfitted estimator for the names of the text features and of the numeric features."""


class TrainingCodeError(RuntimeError):
    """A model's training.py lacks a function that its model.yaml needs. The message names the file."""


def fault_of(folder: Path, model: str, name: str) -> str | None:
    """Return why training.py will not give a function; None if it will. Nothing of it is run."""
    path = folder / model / "training.py"
    if not path.is_file():
        return f"{path} does not exist: create it with a function {_signature(name)}"
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        return f"{path}:{error.lineno or 1}:{error.offset or 1}: {error.msg}"
    except ValueError as error:  # bytes that are no text
        return f"{path}:1:1: {error}"
    defined = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == name]
    count = _signature(name).count(",") + 1
    if defined and not _takes(count, defined[-1].args):
        wanted = "two arguments, the names of the text features and of the numeric ones"
        wanted = "one argument, a trial of Optuna" if count == 1 else wanted
        return f"{path}:{defined[-1].lineno}:1: {name} must take {wanted}: {_signature(name)}"
    if defined or name in _bound_names(tree) or "*" in _bound_names(tree):
        return None
    return f"{path}:1:1: there is no function {_signature(name)}: define it"


def _signature(name: str) -> str:
    return SIGNATURES.get(name, f"{name}(categorical, numeric)")


def _takes(count: int, arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    is_enough = arguments.vararg is not None or positional >= count
    return required <= count and is_enough and None not in arguments.kw_defaults


def _bound_names(tree: ast.Module) -> set[str]:
    """Return the names that are assigned or imported: whether they are functions shows only when they run."""
    assigned = {
        each.id for each in ast.walk(tree) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }
    imports = [each for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)]
    return assigned | {alias.asname or alias.name for each in imports for alias in each.names}


def function_of(folder: Path, model: str, name: str) -> Any:
    """Return a function of a model's training.py; raise `TrainingCodeError` if there is none."""
    path = folder / model / "training.py"
    specification = importlib.util.spec_from_file_location(f"driftline_training_{model}", path)
    if not path.is_file() or specification is None or specification.loader is None:
        raise TrainingCodeError(f"{path} does not exist: create it with a function {_signature(name)}")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    found = getattr(module, name, None)
    if found is None:
        raise TrainingCodeError(f"{path} has no function {_signature(name)}: define it")
    return found
