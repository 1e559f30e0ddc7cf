"""Decoding of a river estimator from a table of objects, without running code of its classes. Pure."""

import collections
import functools
import random
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from services.model_registry.river_types import (
    BUILT_IN,
    VECTOR_CLASS,
    VECTOR_MODULE,
    EstimatorError,
    Reference,
    is_listed,
    number_type,
    river_class,
    slots,
)


class EstimatorDecoder:
    """Creates every object empty, then fills it: so objects may refer to each other in any way."""

    def __init__(self, objects: list[list[Any]]) -> None:
        """Take the table that `services.model_registry.river_encoder` made."""
        self._objects = objects
        self._created: dict[int, Any] = {}
        self._unfilled: list[tuple[Any, list[Any]]] = []

    def read(self, root: Reference) -> Any:
        """Return the value that the root refers to; raise `EstimatorError` for what is not data."""
        found = self.value(root)
        while self._unfilled:
            created, described = self._unfilled.pop()
            self._fill(created, described)
        return found

    def value(self, reference: Reference) -> Any:
        """Return the value of a reference, which may still be empty."""
        if not isinstance(reference, list):
            return reference
        (number,) = reference
        if number not in self._created:
            self._created[number] = self._create(self._objects[number])
        return self._created[number]

    def values(self, references: list[Reference]) -> list[Any]:
        """Return the values of several references."""
        return [self.value(reference) for reference in references]

    def class_of(self, reference: Reference) -> type:
        """Return the class of river that a reference names."""
        found = self.value(reference)
        if not isinstance(found, type) or not is_listed(found.__module__):
            raise EstimatorError(f"{found!r} is not a class of river")
        return found

    def _create(self, described: list[Any]) -> Any:
        kind, *parts = described
        if kind in _EMPTY:
            created = _EMPTY[kind](self, parts)
            self._unfilled.append((created, described))
            return created
        if kind not in _COMPLETE:
            raise EstimatorError(f"an object has the unknown kind {kind!r}")
        return _COMPLETE[kind](self, *parts)

    def _fill(self, created: Any, described: list[Any]) -> None:
        kind, *parts = described
        if kind in ("list", "deque"):
            created.extend(self.values(parts[0]))
        elif kind == "set":
            created.update(self.values(parts[0]))
        elif kind == "object":
            _fill_instance(created, parts[1], self.values(parts[2]))
        else:
            for key, value in zip(self.values(parts[0]), self.values(parts[1]), strict=True):
                created[key] = value


def _fill_instance(created: Any, names: list[str], values: list[Any]) -> None:
    slotted = slots(type(created))
    for name, value in zip(names, values, strict=True):
        if name in slotted:
            object.__setattr__(created, name, value)
        else:
            created.__dict__[name] = value


def _partial(
    decoder: EstimatorDecoder,
    function: Reference,
    positional: list[Any],
    names: list[str],
    named: list[Any],
) -> functools.partial[Any]:
    found = decoder.value(function)
    if not isinstance(found, type):
        raise EstimatorError(f"{found!r} is not a class, and an estimator must not call anything else")
    arguments = dict(zip(names, decoder.values(named), strict=True))
    return functools.partial(found, *decoder.values(positional), **arguments)


def _class(_: EstimatorDecoder, module: str, name: str) -> type:
    return river_class(module, name) if module else BUILT_IN[name]


def _static(decoder: EstimatorDecoder, owner: Reference, name: str) -> Any:
    found = vars(decoder.class_of(owner)).get(name)
    if not isinstance(found, staticmethod):
        raise EstimatorError(f"{name} is not a static method of {owner}")
    return found.__func__


def _method(decoder: EstimatorDecoder, owner: Reference, name: str) -> Any:
    bound = decoder.value(owner)
    found = getattr(type(bound), name, None)
    if not isinstance(found, types.FunctionType) or not is_listed(found.__module__):
        raise EstimatorError(f"{name} is not a method of river")
    return types.MethodType(found, bound)


def _random(_: EstimatorDecoder, version: int, numbers: list[int], gauss: float | None) -> random.Random:
    created = random.Random()  # noqa: S311  # an estimator's own, not a secret's
    created.setstate((version, tuple(numbers), gauss))
    return created


def _array(_: EstimatorDecoder, dtype: str, shape: list[int], order: Any, raw: bytes) -> Any:
    return np.frombuffer(raw, dtype=number_type(dtype)).reshape(shape, order=order).copy(order)


def _scalar(_: EstimatorDecoder, dtype: str, raw: bytes) -> Any:
    return np.frombuffer(raw, dtype=number_type(dtype))[0]


def _vector(
    decoder: EstimatorDecoder, keys: list[Reference], weights: list[float], default: Reference
) -> Any:
    kind = river_class(VECTOR_MODULE, VECTOR_CLASS)
    return kind(dict(zip(decoder.values(keys), weights, strict=True)), decoder.value(default))


_EMPTY: dict[str, Callable[[EstimatorDecoder, list[Any]], Any]] = {
    "list": lambda _, __: [],
    "set": lambda _, __: set(),
    "dict": lambda _, __: {},
    "OrderedDict": lambda _, __: collections.OrderedDict(),
    "Counter": lambda _, __: collections.Counter(),
    "defaultdict": lambda decoder, parts: collections.defaultdict(decoder.value(parts[2])),
    "deque": lambda _, parts: collections.deque(maxlen=parts[1]),
    "object": lambda decoder, parts: object.__new__(decoder.class_of(parts[0])),
}
"""Kinds that are created empty and filled later."""
_COMPLETE: dict[str, Callable[..., Any]] = {
    "tuple": lambda decoder, items: tuple(decoder.values(items)),
    "frozenset": lambda decoder, items: frozenset(decoder.values(items)),
    "partial": _partial,
    "class": _class,
    "static": _static,
    "method": _method,
    "Random": _random,
    "ndarray": _array,
    "scalar": _scalar,
    "vector": _vector,
}
"""Kinds that cannot change after they are created."""
