"""River estimators as data: every attribute of every object by name, no code. Pure.

Who reads a topic must expect that anyone may have written to it, so an estimator is no pickle there. It is
a table of objects: numbers, text, containers, and instances of river's own classes, of modules that are
listed here. Reading makes empty instances of those classes and fills in their attributes. It runs none of
their code, imports nothing beyond the listed modules, and knows no way to name anything else.

Floats are exact, order is kept, and what was shared is shared again. So an estimator that was written and
read goes on learning and answering bit for bit as the one that was written. Equal estimators give equal
bytes: a set, the one container without an order, is written sorted.

Refused, with its name, is what cannot be told so: functions and lambdas, classes of other packages, and
river's native objects but the vector of weights. The others (ADWIN of the adaptive trees, quantiles,
Mondrian forests) read their own bytes without checks and may end the process on wrong ones.
"""

import collections
import functools
import importlib
import importlib.metadata
import random
import types
import zlib
from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec
import numpy as np

MODULES = (
    "river.base", "river.compose", "river.dummy", "river.ensemble", "river.feature_selection",
    "river.imblearn", "river.linear_model", "river.metrics", "river.multiclass", "river.naive_bayes",
    "river.optim", "river.preprocessing", "river.proba", "river.stats", "river.tree", "river.utils",
)  # fmt: skip
"""Whose classes may occur, those of their submodules included."""
_VECTOR = "river._river_rust.vectordict"
_BUILT_IN: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, str, list, tuple, dict, set, collections.defaultdict, collections.deque)
} | {kind.__name__: kind for kind in (collections.Counter, collections.OrderedDict)}  # fmt: skip
"""Classes that may occur as values, as the factory of a defaultdict does."""
_PLAIN = (bool, int, float, str, bytes, type(None))
_ARRAY_KINDS = "biuf"
BYTES_MAX = 256 << 20
"""Unpacked: more than any estimator that fits into a record."""
FORMAT = 1

Reference = Any
"""A plain value as itself, an object as ``[its number]``."""


class EstimatorError(ValueError):
    """An estimator cannot be written or read. The message names what stands in the way."""


class _Table(msgspec.Struct):
    format: int
    river: str
    root: Reference
    objects: list[list[Any]]
    """Each its kind, then what that kind needs; see `_Writer` and `_Reader`."""


def encode(estimator: Any) -> bytes:
    """Write an estimator; raise `EstimatorError` for one that holds anything but data."""
    writer = _Writer()
    root = writer.reference(estimator)
    writer.finish()
    table = _Table(FORMAT, _river_version(), root, writer.objects)
    return zlib.compress(msgspec.msgpack.encode(table), 1)


def decode(raw: bytes) -> Any:
    """Read an estimator that `encode` wrote, with the same version of river; raise `EstimatorError`."""
    try:
        table = msgspec.msgpack.decode(_decompressed(raw), type=_Table)
    except (zlib.error, msgspec.DecodeError) as error:
        raise EstimatorError(f"the estimator cannot be read: {error}") from error
    if (table.format, table.river) != (FORMAT, _river_version()):
        raise EstimatorError(
            f"the estimator has format {table.format} and was written with river {table.river}; this version "
            f"reads format {FORMAT} of river {_river_version()}: run that version, or learn anew"
        )
    try:
        return _Reader(table.objects).read(table.root)
    except EstimatorError:
        raise
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        ImportError,
        RecursionError,
    ) as error:
        raise EstimatorError(f"the estimator cannot be read: {error!r}") from error


def _decompressed(raw: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(raw, BYTES_MAX)
    if not unpacker.eof:
        raise EstimatorError(f"the estimator is cut short, or larger than {BYTES_MAX >> 20} MiB")
    return data


@functools.cache
def _river_version() -> str:
    return importlib.metadata.version("river")


def _is_listed(module: str) -> bool:
    return any(module == listed or module.startswith(f"{listed}.") for listed in MODULES)


@functools.cache
def _river_class(module: str, name: str) -> type:
    """Return a class of a listed module, the vector of weights included."""
    if not (_is_listed(module) or (module, name) == (_VECTOR, "VectorDict")):
        raise EstimatorError(f"{module}.{name} is of no module that an estimator may hold")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if isinstance(found, type) and (found.__module__, found.__qualname__) == (module, name):
        return found
    raise EstimatorError(f"{module}.{name} is no class of that module")


@functools.cache
def _check_bases(kind: type) -> None:
    """Refuse a class whose instances hold more than their attributes, as subclasses of dict do."""
    for base in kind.__mro__:
        plain = base is object or base.__module__ in ("abc", "typing", "collections.abc")
        if not (plain or _is_listed(base.__module__) or base in (collections.UserDict, collections.UserList)):
            raise EstimatorError(
                f"{kind.__module__}.{kind.__qualname__} is a {base.__module__}.{base.__qualname__}, "
                "whose state cannot be told by its attributes"
            )


class _Writer:
    """Numbers the objects as it meets them, without recursion: a tree may be deep."""

    def __init__(self) -> None:
        self.objects: list[list[Any]] = []
        self._numbers: dict[int, int] = {}
        self._waiting: collections.deque[tuple[int, Any]] = collections.deque()
        self._kept: list[Any] = []
        """So that no identity is used twice."""

    def reference(self, value: Any) -> Reference:
        """Return how to refer to a value, which is written later if it is an object."""
        if type(value) in _PLAIN:
            return value
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self.objects)
            self.objects.append([])
            self._kept.append(value)
            self._waiting.append((number, value))
        return [number]

    def finish(self) -> None:
        """Write everything that is referred to."""
        while self._waiting:
            number, value = self._waiting.popleft()
            self.objects[number] = self._describe(value)

    def _describe(self, value: Any) -> list[Any]:
        describe = _DESCRIBERS.get(type(value))
        if describe is not None:
            return describe(self, value)
        if isinstance(value, type):
            return self.class_(value)
        if isinstance(value, types.MethodType):
            return ["method", self.reference(value.__self__), value.__func__.__name__]
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, np.generic):
            return ["scalar", value.dtype.str, self._array_bytes(np.asarray(value), "C")]
        return self._instance(value)

    def _items(self, values: Iterable[Any]) -> list[Reference]:
        return [self.reference(value) for value in values]

    def sequence(self, value: Any) -> list[Any]:
        return [type(value).__name__, self._items(value)]

    def sorted_set(self, value: Any) -> list[Any]:
        ordered = sorted(value, key=lambda item: (type(item).__name__, item))
        return [type(value).__name__, self._items(ordered)]

    def mapping(self, value: Any) -> list[Any]:
        return [type(value).__name__, self._items(value.keys()), self._items(value.values())]

    def defaultdict(self, value: Any) -> list[Any]:
        return [*self.mapping(value), self.reference(value.default_factory)]

    def deque(self, value: Any) -> list[Any]:
        return ["deque", self._items(value), value.maxlen]

    def partial(self, value: Any) -> list[Any]:
        named = value.keywords
        function, values = self.reference(value.func), self._items(named.values())
        return ["partial", function, self._items(value.args), list(named), values]

    def random_(self, value: random.Random) -> list[Any]:
        version, numbers, gauss = value.getstate()
        return ["Random", version, list(numbers), gauss]

    def array(self, value: Any) -> list[Any]:
        # The order in memory is kept: sums over another order differ in their last bits.
        order = "C" if value.flags.c_contiguous else "F"
        return ["ndarray", value.dtype.str, list(value.shape), order, self._array_bytes(value, order)]

    def _array_bytes(self, value: Any, order: str) -> bytes:
        if value.dtype.kind not in _ARRAY_KINDS:
            raise EstimatorError(f"an array of {value.dtype} is no data that an estimator may hold")
        return cast("bytes", value.tobytes(order))

    def class_(self, value: type) -> list[Any]:
        if _BUILT_IN.get(value.__name__) is value:
            return ["class", "", value.__name__]
        _river_class(value.__module__, value.__qualname__)
        return ["class", value.__module__, value.__qualname__]

    def _function(self, value: types.FunctionType) -> list[Any]:
        """A static method of a river class, named by the class."""
        owner, _, name = value.__qualname__.rpartition(".")
        if not owner or "<" in value.__qualname__:
            raise EstimatorError(f"the function {value.__module__}.{value.__qualname__} is code, not data")
        return ["static", self.reference(_river_class(value.__module__, owner)), name]

    def _instance(self, value: Any) -> list[Any]:
        kind = type(value)
        found = _river_class(kind.__module__, kind.__qualname__)
        if found.__module__ == _VECTOR:
            return self.vector(value)
        _check_bases(found)
        attributes = _attributes(value)
        return ["object", self.reference(found), list(attributes), self._items(attributes.values())]

    def vector(self, value: Any) -> list[Any]:
        weights, default, mask, *_ = value.__reduce__()[1]
        if mask is not None:
            raise EstimatorError("a vector of weights has a mask, which it has only while it learns")
        if any(type(weight) is not float for weight in weights.values()):
            raise EstimatorError("a vector of weights holds something else than floats")
        return ["vector", self._items(weights), list(weights.values()), self.reference(default)]


_DESCRIBERS: dict[type, Callable[[_Writer, Any], list[Any]]] = {
    list: _Writer.sequence,
    tuple: _Writer.sequence,
    set: _Writer.sorted_set,
    frozenset: _Writer.sorted_set,
    dict: _Writer.mapping,
    collections.OrderedDict: _Writer.mapping,
    collections.Counter: _Writer.mapping,
    collections.defaultdict: _Writer.defaultdict,
    collections.deque: _Writer.deque,
    functools.partial: _Writer.partial,
    random.Random: _Writer.random_,
    np.ndarray: _Writer.array,
}


def _slots(kind: Any) -> frozenset[str]:
    found = [vars(each).get("__slots__", ()) for each in kind.__mro__]
    names = {name for names in found for name in ((names,) if isinstance(names, str) else names)}
    return frozenset(names - {"__dict__", "__weakref__"})


def _attributes(value: Any) -> dict[str, Any]:
    """Return an instance's own attributes, those in slots included."""
    found = dict(getattr(value, "__dict__", {}))
    return found | {name: getattr(value, name) for name in _slots(type(value)) if hasattr(value, name)}


class _Reader:
    """Makes every object empty, then fills it: so objects may refer to each other in any way."""

    def __init__(self, objects: list[list[Any]]) -> None:
        self._objects = objects
        self._made: dict[int, Any] = {}
        self._unfilled: list[tuple[Any, list[Any]]] = []

    def read(self, root: Reference) -> Any:
        """Return what the root refers to."""
        found = self.value(root)
        while self._unfilled:
            made, described = self._unfilled.pop()
            self._fill(made, described)
        return found

    def value(self, reference: Reference) -> Any:
        if not isinstance(reference, list):
            return reference
        (number,) = reference
        if number not in self._made:
            self._made[number] = self._make(self._objects[number])
        return self._made[number]

    def _values(self, references: list[Reference]) -> list[Any]:
        return [self.value(reference) for reference in references]

    def _make(self, described: list[Any]) -> Any:
        kind, *parts = described
        if kind in _EMPTY:
            made = _EMPTY[kind](self, parts)
            self._unfilled.append((made, described))
            return made
        if kind not in _COMPLETE:
            raise EstimatorError(f"an object of the unknown kind {kind!r}")
        return _COMPLETE[kind](self, *parts)

    def _fill(self, made: Any, described: list[Any]) -> None:
        kind, *parts = described
        if kind in ("list", "deque"):
            made.extend(self._values(parts[0]))
        elif kind == "set":
            made.update(self._values(parts[0]))
        elif kind == "object":
            self._fill_instance(made, parts[1], self._values(parts[2]))
        else:
            pairs = zip(self._values(parts[0]), self._values(parts[1]), strict=True)
            for key, value in pairs:
                made[key] = value

    def _fill_instance(self, made: Any, names: list[str], values: list[Any]) -> None:
        slots = _slots(type(made))
        for name, value in zip(names, values, strict=True):
            if name in slots:
                object.__setattr__(made, name, value)
            else:
                made.__dict__[name] = value

    def empty_instance(self, parts: list[Any]) -> Any:
        return object.__new__(self._river_class(parts[0]))

    def _river_class(self, reference: Reference) -> type:
        found = self.value(reference)
        if not isinstance(found, type) or not _is_listed(found.__module__):
            raise EstimatorError(f"{found!r} is no class of river")
        return found

    def tuple_(self, items: list[Reference]) -> tuple[Any, ...]:
        return tuple(self._values(items))

    def frozenset_(self, items: list[Reference]) -> frozenset[Any]:
        return frozenset(self._values(items))

    def partial(
        self, function: Reference, positional: list[Any], names: list[str], named: list[Any]
    ) -> functools.partial[Any]:
        found = self.value(function)
        if not isinstance(found, type):
            raise EstimatorError(f"{found!r} is no class, and nothing else may be called")
        arguments = dict(zip(names, self._values(named), strict=True))
        return functools.partial(found, *self._values(positional), **arguments)

    def class_(self, module: str, name: str) -> type:
        return _river_class(module, name) if module else _BUILT_IN[name]

    def static(self, owner: Reference, name: str) -> Any:
        found = vars(self._river_class(owner)).get(name)
        if not isinstance(found, staticmethod):
            raise EstimatorError(f"{name} is no static method of {owner}")
        return found.__func__

    def method(self, owner: Reference, name: str) -> Any:
        bound = self.value(owner)
        found = getattr(type(bound), name, None)
        if not isinstance(found, types.FunctionType) or not _is_listed(found.__module__):
            raise EstimatorError(f"{name} is no method of river")
        return types.MethodType(found, bound)

    def random_(self, version: int, numbers: list[int], gauss: float | None) -> random.Random:
        made = random.Random()  # noqa: S311  # an estimator's own, not a secret's
        made.setstate((version, tuple(numbers), gauss))
        return made

    def array(self, dtype: str, shape: list[int], order: Any, raw: bytes) -> Any:
        return np.frombuffer(raw, dtype=_number_type(dtype)).reshape(shape, order=order).copy(order)

    def scalar(self, dtype: str, raw: bytes) -> Any:
        return np.frombuffer(raw, dtype=_number_type(dtype))[0]

    def vector(self, keys: list[Reference], weights: list[float], default: Reference) -> Any:
        kind = _river_class(_VECTOR, "VectorDict")
        return kind(dict(zip(self._values(keys), weights, strict=True)), self.value(default))


def _number_type(name: str) -> Any:
    found = np.dtype(name)
    if found.kind not in _ARRAY_KINDS:
        raise EstimatorError(f"an array of {name} is no data that an estimator may hold")
    return found


_EMPTY: dict[str, Callable[[_Reader, list[Any]], Any]] = {
    "list": lambda _, __: [],
    "set": lambda _, __: set(),
    "dict": lambda _, __: {},
    "OrderedDict": lambda _, __: collections.OrderedDict(),
    "Counter": lambda _, __: collections.Counter(),
    "defaultdict": lambda reader, parts: collections.defaultdict(reader.value(parts[2])),
    "deque": lambda _, parts: collections.deque(maxlen=parts[1]),
    "object": _Reader.empty_instance,
}
"""Kinds that are made empty and filled later."""
_COMPLETE: dict[str, Callable[..., Any]] = {
    "tuple": _Reader.tuple_,
    "frozenset": _Reader.frozenset_,
    "partial": _Reader.partial,
    "class": _Reader.class_,
    "static": _Reader.static,
    "method": _Reader.method,
    "Random": _Reader.random_,
    "ndarray": _Reader.array,
    "scalar": _Reader.scalar,
    "vector": _Reader.vector,
}
"""Kinds that cannot change once they are made."""
