"""A table can name nothing but data and classes of river."""

import zlib

import msgspec
import pytest

from services.model_registry import river_format as subject
from services.model_registry.river_types import EstimatorError


def table(*objects, root=0, **changes):
    """Return the bytes of a table that `encode` would not write."""
    genuine = msgspec.msgpack.decode(zlib.decompress(subject.encode([])))
    return zlib.compress(msgspec.msgpack.encode({**genuine, "root": [root], "objects": objects, **changes}))


@pytest.mark.parametrize(
    "objects",
    [
        [["class", "os", "system"]],
        [["class", "river.base.os", "system"]],
        [["class", "river.datasets.base", "SyntheticDataset"]],
        [["class", "river.utils", "inspect"]],
        [["class", "", "eval"]],
        [["static", [1], "system"], ["class", "", "dict"]],
        [["method", [1], "__reduce__"], ["list", []]],
        [["partial", [1], [], [], []], ["list", []]],
        [["object", [1], [], []], ["class", "", "dict"]],
        [["ndarray", "|O", [1], "C", b"12345678"]],
        [["ndarray", "<f8", [4], "C", b"12345678"]],
        [["tuple", [[0]]]],
        [["pickle", b"cos\nsystem\n(S'true'\ntR."]],
        [["list", [[7]]]],
        [[]],
    ],
    ids=str,
)
def test_table_that_names_anything_else_is_refused(objects):
    with pytest.raises(EstimatorError):
        subject.decode(table(*objects))


def test_shared_and_circular_references_are_kept():
    first: list[object] = [1.5]
    first.append(first)
    second = subject.decode(subject.encode({"a": first, "b": first}))
    assert second["a"] is second["b"]
    assert second["a"][1] is second["a"]
