"""Encoding of a river estimator as a table of its objects. Pure."""

import collections
import functools
import random
import types
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np

from services.model_registry.river_types import (
    ARRAY_KINDS,
    BUILT_IN,
    PLAIN,
    VECTOR_MODULE,
    EstimatorError,
    Reference,
    check_bases,
    river_class,
    slots,
)

Described = list[Any]
"""An object's kind, then what that kind needs to be read again."""


class EstimatorEncoder:
    """Numbers objects in the order in which it finds them, without recursion: a tree may be deep."""

    def __init__(self) -> None:
        """Begin with an empty table."""
        self.objects: list[Described] = []
        self._numbers: dict[int, int] = {}
        """Number of each object, by identity."""
        self._waiting: collections.deque[tuple[int, Any]] = collections.deque()
        self._kept: list[Any] = []
        """All numbered objects, so that no identity is used twice."""

    def reference(self, value: Any) -> Reference:
        """Return the reference to a value; if it is an object, `finish` describes it."""
        if type(value) in PLAIN:
            return value
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self.objects)
            self.objects.append([])
            self._kept.append(value)
            self._waiting.append((number, value))
        return [number]

    def references(self, values: Iterable[Any]) -> list[Reference]:
        """Return the references to several values."""
        return [self.reference(value) for value in values]

    def finish(self) -> None:
        """Describe every object that is referred to; raise `EstimatorError` for one that is not data."""
        while self._waiting:
            number, value = self._waiting.popleft()
            self.objects[number] = _describe(self, value)


def _describe(encoder: EstimatorEncoder, value: Any) -> Described:
    describe = _DESCRIBERS.get(type(value))
    if describe is not None:
        return describe(encoder, value)
    if isinstance(value, type):
        return _class(value)
    if isinstance(value, types.MethodType):
        return ["method", encoder.reference(value.__self__), value.__func__.__name__]
    if isinstance(value, types.FunctionType):
        return _function(encoder, value)
    if isinstance(value, np.generic):
        return ["scalar", value.dtype.str, _array_bytes(np.asarray(value), "C")]
    return _instance(encoder, value)


def _sequence(encoder: EstimatorEncoder, value: Any) -> Described:
    return [type(value).__name__, encoder.references(value)]


def _sorted_set(encoder: EstimatorEncoder, value: Any) -> Described:
    ordered = sorted(value, key=lambda item: (type(item).__name__, item))
    return [type(value).__name__, encoder.references(ordered)]


def _mapping(encoder: EstimatorEncoder, value: Any) -> Described:
    return [type(value).__name__, encoder.references(value.keys()), encoder.references(value.values())]


def _defaultdict(encoder: EstimatorEncoder, value: Any) -> Described:
    return [*_mapping(encoder, value), encoder.reference(value.default_factory)]


def _deque(encoder: EstimatorEncoder, value: Any) -> Described:
    return ["deque", encoder.references(value), value.maxlen]


def _partial(encoder: EstimatorEncoder, value: Any) -> Described:
    named = value.keywords
    function, values = encoder.reference(value.func), encoder.references(named.values())
    return ["partial", function, encoder.references(value.args), list(named), values]


def _random(_: EstimatorEncoder, value: random.Random) -> Described:
    version, numbers, gauss = value.getstate()
    return ["Random", version, list(numbers), gauss]


def _array(_: EstimatorEncoder, value: Any) -> Described:
    # The order in memory is kept: sums in another order differ in their last bits.
    order = "C" if value.flags.c_contiguous else "F"
    return ["ndarray", value.dtype.str, list(value.shape), order, _array_bytes(value, order)]


def _array_bytes(value: Any, order: str) -> bytes:
    if value.dtype.kind not in ARRAY_KINDS:
        raise EstimatorError(f"an estimator must not hold an array of {value.dtype}: only numbers and bools")
    return cast("bytes", value.tobytes(order))


def _class(value: type) -> Described:
    if BUILT_IN.get(value.__name__) is value:
        return ["class", "", value.__name__]
    river_class(value.__module__, value.__qualname__)
    return ["class", value.__module__, value.__qualname__]


def _function(encoder: EstimatorEncoder, value: types.FunctionType) -> Described:
    """Describe a static method of a river class by the class and its name."""
    owner, _, name = value.__qualname__.rpartition(".")
    if not owner or "<" in value.__qualname__:
        raise EstimatorError(f"the function {value.__module__}.{value.__qualname__} is code, not data")
    return ["static", encoder.reference(river_class(value.__module__, owner)), name]


def _instance(encoder: EstimatorEncoder, value: Any) -> Described:
    kind = type(value)
    found = river_class(kind.__module__, kind.__qualname__)
    if found.__module__ == VECTOR_MODULE:
        return _vector(encoder, value)
    check_bases(found)
    attributes = _attributes(value)
    values = encoder.references(attributes.values())
    return ["object", encoder.reference(found), list(attributes), values]


def _attributes(value: Any) -> dict[str, Any]:
    """Return an instance's own attributes, those in slots included."""
    found = dict(getattr(value, "__dict__", {}))
    return found | {name: getattr(value, name) for name in slots(type(value)) if hasattr(value, name)}


def _vector(encoder: EstimatorEncoder, value: Any) -> Described:
    weights, default, mask, *_ = value.__reduce__()[1]
    if mask is not None:
        raise EstimatorError("a vector of weights has a mask, which it has only while it learns")
    if any(type(weight) is not float for weight in weights.values()):
        raise EstimatorError("a vector of weights holds values other than floats")
    return ["vector", encoder.references(weights), list(weights.values()), encoder.reference(default)]


_DESCRIBERS: dict[type, Callable[[EstimatorEncoder, Any], Described]] = {
    list: _sequence,
    tuple: _sequence,
    set: _sorted_set,
    frozenset: _sorted_set,
    dict: _mapping,
    collections.OrderedDict: _mapping,
    collections.Counter: _mapping,
    collections.defaultdict: _defaultdict,
    collections.deque: _deque,
    functools.partial: _partial,
    random.Random: _random,
    np.ndarray: _array,
}
