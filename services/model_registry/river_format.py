"""River estimators as data: every attribute of every object by name, no code. Pure.

A reader of a topic must expect that anyone may have written to it, so an estimator is not a pickle there. It
is a table of objects: numbers, text, containers, and instances of river's own classes, from the modules in
`services.model_registry.river_types`. Reading creates empty instances of those classes and sets their
attributes. It runs none of their code, imports nothing but the listed modules, and cannot name anything else.

Floats are exact, order is kept, and what was shared is shared again. So an estimator that was written and
read continues to learn and to predict bit for bit like the one that was written. Equal estimators give equal
bytes: a set, the one container without an order, is written sorted.

Some values cannot be described this way and are refused by name: functions and lambdas, classes of other
packages, and river's native objects except the vector of weights. The other native objects (ADWIN of the
adaptive trees, quantiles, Mondrian forests) read their own bytes without checks, and wrong bytes may crash
the process.
"""

import functools
import importlib.metadata
import zlib
from typing import Any

import msgspec

from services.model_registry.river_decoder import EstimatorDecoder
from services.model_registry.river_encoder import EstimatorEncoder
from services.model_registry.river_types import EstimatorError, Reference

BYTES_MAX = 256 << 20
"""Maximum size after decompression: more than any estimator that fits into a record."""
FORMAT = 1


class _Table(msgspec.Struct):
    format: int
    river: str
    """Version of river."""
    root: Reference
    objects: list[list[Any]]
    """Each object's kind, then what that kind needs."""


def encode(estimator: Any) -> bytes:
    """Write an estimator; raise `EstimatorError` for one that holds anything but data."""
    encoder = EstimatorEncoder()
    root = encoder.reference(estimator)
    encoder.finish()
    table = _Table(FORMAT, _river_version(), root, encoder.objects)
    return zlib.compress(msgspec.msgpack.encode(table), 1)


def decode(raw: bytes) -> Any:
    """Read an estimator that `encode` wrote, with the same version of river; raise `EstimatorError`."""
    try:
        table = msgspec.msgpack.decode(_decompressed(raw), type=_Table)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EstimatorError(f"the estimator cannot be read: {error}") from error
    if (table.format, table.river) != (FORMAT, _river_version()):
        raise EstimatorError(
            f"the estimator has format {table.format} and was written with river {table.river}, but this "
            f"installation reads format {FORMAT} of river {_river_version()}: install that version, or "
            "delete the checkpoint to learn again from the first label"
        )
    try:
        return EstimatorDecoder(table.objects).read(table.root)
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
        raise EstimatorError(f"the estimator is truncated, or larger than {BYTES_MAX >> 20} MiB")
    return data


@functools.cache
def _river_version() -> str:
    return importlib.metadata.version("river")
