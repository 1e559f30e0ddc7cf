"""Which classes and values a river estimator may hold as data. Pure."""

import collections
import functools
import importlib
from typing import Any

import numpy as np

MODULES = (
    "river.base", "river.compose", "river.dummy", "river.ensemble", "river.feature_selection",
    "river.imblearn", "river.linear_model", "river.metrics", "river.multiclass", "river.naive_bayes",
    "river.optim", "river.preprocessing", "river.proba", "river.stats", "river.tree", "river.utils",
)  # fmt: skip
"""Modules whose classes may occur, those of their submodules included."""
VECTOR_MODULE = "river._river_rust.vectordict"
VECTOR_CLASS = "VectorDict"
BUILT_IN: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, str, list, tuple, dict, set, collections.defaultdict, collections.deque)
} | {kind.__name__: kind for kind in (collections.Counter, collections.OrderedDict)}  # fmt: skip
"""Classes that may occur as values, as the factory of a defaultdict does."""
PLAIN = (bool, int, float, str, bytes, type(None))
"""Types that are written as themselves."""
ARRAY_KINDS = "biuf"
"""Kinds of numpy's types that an array may have: bool, int, unsigned int, float."""

Reference = Any
"""A plain value as itself, an object as ``[its number]``."""


class EstimatorError(ValueError):
    """An estimator cannot be written or read. The message names the value that prevents it."""


def is_listed(module: str) -> bool:
    """Tell whether the classes of a module may occur."""
    return any(module == listed or module.startswith(f"{listed}.") for listed in MODULES)


@functools.cache
def river_class(module: str, name: str) -> type:
    """Return a class of a listed module, or the vector of weights; raise `EstimatorError` for any other."""
    if not (is_listed(module) or (module, name) == (VECTOR_MODULE, VECTOR_CLASS)):
        raise EstimatorError(f"an estimator must not hold {module}.{name}: its module is not in the list")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if isinstance(found, type) and (found.__module__, found.__qualname__) == (module, name):
        return found
    raise EstimatorError(f"{module}.{name} is not a class of that module")


@functools.cache
def check_bases(kind: type) -> None:
    """Raise `EstimatorError` for a class whose state is more than attributes, such as a subclass of dict."""
    for base in kind.__mro__:
        plain = base is object or base.__module__ in ("abc", "typing", "collections.abc")
        if not (plain or is_listed(base.__module__) or base in (collections.UserDict, collections.UserList)):
            raise EstimatorError(
                f"{kind.__module__}.{kind.__qualname__} is a subclass of {base.__module__}."
                f"{base.__qualname__}: its attributes are not its whole state"
            )


def number_type(name: str) -> Any:
    """Return numpy's type of this name; raise `EstimatorError` unless it holds numbers."""
    found = np.dtype(name)
    if found.kind not in ARRAY_KINDS:
        raise EstimatorError(f"an estimator must not hold an array of {name}: only numbers and bools")
    return found


def slots(kind: Any) -> frozenset[str]:
    """Return the names of a class's slots, those of its bases included."""
    found = [vars(each).get("__slots__", ()) for each in kind.__mro__]
    names = {name for names in found for name in ((names,) if isinstance(names, str) else names)}
    return frozenset(names - {"__dict__", "__weakref__"})
