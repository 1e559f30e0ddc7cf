"""Arrays of numbers as they are written into a state, and reading them back without copying."""

import dataclasses
import functools
import itertools
import operator
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]

integer_array = functools.partial(array, "q")
double_array = functools.partial(array, "d")
"""Numbers as they are written: 64 bits, little-endian, which is the order of every machine that we run on.

For the short lists of which most states consist, `array.array` costs half of what numpy's arrays cost.
"""


class StoredStateError(ValueError):
    """Stored bytes are not the state that they should be."""


def is_rising(last: int, numbers: Sequence[int]) -> bool:
    """Return whether each number is greater than the one before it, and the first greater than ``last``."""
    return last < numbers[0] and all(map(operator.lt, numbers, itertools.islice(numbers, 1, None)))


@dataclasses.dataclass
class ArrayReader:
    """Reads arrays one after the other; each has ``size`` entries, one per tile, unless a count is given."""

    raw: bytes
    position: int
    size: int

    def integers_view(self) -> "memoryview[int]":
        """Return the next ``size`` integers; none is decoded yet."""
        return self.part(8 * self.size).cast("q")

    def doubles_view(self) -> "memoryview[float]":
        """Return the next ``size`` doubles; none is decoded yet."""
        return self.part(8 * self.size).cast("d")

    def part(self, size_bytes: int) -> memoryview:
        """Return the next bytes; raise ValueError if there are fewer."""
        start, self.position = self.position, self.position + size_bytes
        if self.position > len(self.raw):
            raise ValueError(f"{self.position - len(self.raw)} bytes are missing")
        return memoryview(self.raw)[start : self.position]

    def integers(self) -> Int64s:
        """Read the next ``size`` integers."""
        return self.array("<i8", self.size)

    def doubles(self) -> Float64s:
        """Read the next ``size`` doubles."""
        return self.array("<f8", self.size)

    def array(self, dtype: str, count: int) -> AnyArray:
        """Read the next ``count`` numbers of a type; raise ValueError if there are fewer."""
        if count < 0:
            raise ValueError(f"the count of an array is negative: {count}")
        array: AnyArray = np.frombuffer(self.raw, dtype=dtype, count=count, offset=self.position)
        self.position += array.nbytes
        return array
