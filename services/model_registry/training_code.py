"""The functions that ``models/<name>/training.py`` of a model defines."""

import ast
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.runtime.suggestions import nearest

SIGNATURES = {"search_space": "search_space(trial)"}
"""How functions are called that take other arguments than those of `MakeEstimator`."""
MakeEstimator = Callable[[list[str], list[str]], Any]
"""Returns an unfitted estimator for the names of the text features and of the numeric features."""


class TrainingCodeError(RuntimeError):
    """A model's training.py lacks a function that its model.yaml needs. The message names the file."""


def faults_of(folder: Path, model: str, names: Sequence[str]) -> list[str]:
    """Return why training.py will not give its functions, each with file, line and column.

    Nothing of training.py is run; the libraries that it names are imported.
    """
    path = folder / model / "training.py"
    if not path.is_file():
        wanted = " and ".join(map(_signature, names))
        return [f"{path} does not exist: create it with a function {wanted}"] if names else []
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        return [f"{path}:{error.lineno or 1}:{error.offset or 1}: {error.msg}"]
    except ValueError as error:  # bytes that are no text
        return [f"{path}:1:1: {error}"]
    found = [_function_fault(tree, name) for name in names]
    faults = [*filter(None, found), *import_faults(tree, path.parent)]
    return [f"{path}:{fault}" for fault in faults]


def _function_fault(tree: ast.Module, name: str) -> str | None:
    """Return line, column and text if a function is missing or cannot be called as it will be."""
    functions = [each for each in tree.body if isinstance(each, ast.FunctionDef)]
    defined = [each for each in functions if each.name == name]
    count = _signature(name).count(",") + 1
    if defined and not _takes(count, defined[-1].args):
        wanted = "two arguments, the names of the text features and of the numeric ones"
        wanted = "one argument, a trial of Optuna" if count == 1 else wanted
        return f"{defined[-1].lineno}:1: {name} must take {wanted}: {_signature(name)}"
    if defined or name in _bound_names(tree) or "*" in _bound_names(tree):
        return None
    for each in functions:
        if nearest(each.name, [name]):
            hint = f"there is no {_signature(name)}, but {each.name}"
            return f"{each.lineno}:1: {hint} (did you mean {name}?)"
    return f"1:1: there is no function {_signature(name)}: define it"


def import_faults(tree: ast.Module, folder: Path) -> list[str]:
    """Return line, column and text for each import of a module or name that does not exist.

    What stands in a ``try`` may be missing. A file beside the one that is read cannot be imported.
    """
    optional = {id(node) for each in ast.walk(tree) if isinstance(each, ast.Try) for node in ast.walk(each)}
    found: list[tuple[ast.stmt | ast.alias, str | None]] = []
    for node in ast.walk(tree):
        if id(node) in optional:
            continue
        if isinstance(node, ast.Import):
            found += [(node, _module_fault(alias.name, folder)) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if (fault := _module_fault(module, folder)) is not None:
                found.append((node, fault))
            else:
                found += [(alias, _name_fault(module, alias.name)) for alias in node.names]
    return [f"{at.lineno}:{at.col_offset + 1}: {text}" for at, text in found if text is not None]


def _module_fault(module: str, folder: Path) -> str | None:
    first = module.partition(".")[0]
    if not first or (folder / f"{first}.py").is_file():
        return (
            "a file beside this one cannot be imported; move its functions here, or install it as a package"
        )
    try:
        with warnings.catch_warnings(action="ignore"):
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        return f"no module named {error.name!r}: install it, or correct the name"
    except Exception as error:  # noqa: BLE001  # a library may fail in any way when it is imported
        return f"import of {module!r} fails: {type(error).__name__}: {error}"
    return None


def _name_fault(module: str, name: str) -> str | None:
    imported = importlib.import_module(module)
    if name == "*" or hasattr(imported, name):
        return None
    if hasattr(imported, "__path__") and importlib.util.find_spec(f"{module}.{name}") is not None:
        return None
    near = nearest(name, dir(imported))
    return f"{module} does not have {name!r}" + (f" (did you mean {near}?)" if near else "")


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
