"""Partial aggregates that are more than a number: one mergeable cell for each tile of a column.

A cell is a function of the set of (event time, value) pairs in its tile, so neither order nor the way
in which cells were merged changes a byte of it. What a kind of cell keeps stands in its own module.
"""

import abc
import dataclasses
import functools
import itertools
import operator
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]
Cell = TypeVar("Cell")


integer_array = functools.partial(array, "q")
double_array = functools.partial(array, "d")
"""Numbers as they are written: 64 bits, little-endian, for no machine that we run on has another order.

For the short lists of which most states consist they cost half of what numpy's arrays do.
"""


def rise(last: int, numbers: Sequence[int]) -> bool:
    """Tell whether each of some numbers is above the one before, the first above ``last``."""
    return last < numbers[0] and all(map(operator.lt, numbers, itertools.islice(numbers, 1, None)))


class Cells(abc.ABC, Generic[Cell]):
    """The cells of one kind, one a tile, for adding events."""

    def __init__(self, cells: list[Cell] | None = None) -> None:
        """Start without tiles, or with cells that no one else holds."""
        self.cells: list[Cell] = cells or []

    @abc.abstractmethod
    def empty(self) -> Cell:
        """Make a cell without values."""

    @abc.abstractmethod
    def merged(self, cells: Sequence[Cell]) -> Cell:
        """Merge cells into a new one; they stay as they are."""

    @abc.abstractmethod
    def to_bytes(self) -> bytes:
        """Write the cells; equal sets of events give equal bytes."""

    def insert(self, index: int) -> None:
        """Make room for a tile without values."""
        self.cells.insert(index, self.empty())

    def extend(self, other: Self) -> None:
        """Append the tiles of another."""
        self.cells += [self.merged([cell]) for cell in other.cells]

    def regroup(self, first: int, end: int, groups: Sequence[Sequence[int]]) -> None:
        """Replace the tiles from first to before end by one for each group of them."""
        self.cells[first:end] = [
            self.cells[group[0]] if len(group) == 1 else self.merged([self.cells[i] for i in group])
            for group in groups
        ]

    def clear(self, index: int) -> None:
        """Forget the values of a tile."""
        self.cells[index] = self.empty()

    def drop(self, tiles: int) -> None:
        """Forget the oldest tiles."""
        del self.cells[:tiles]


class ValueCells(Cells[Cell]):
    """Cells from which some functions of a column's values are answered."""

    @abc.abstractmethod
    def add(self, index: int, value: Any, time_ms: int) -> None:
        """Add the value of an event to a tile."""

    @abc.abstractmethod
    def value(self, low: int, high: int, percentile: float) -> float | str:
        """Aggregate the tiles from low to before high; nan where there is no value."""

    @classmethod
    @abc.abstractmethod
    def read(cls, reader: "ArrayReader") -> "StoredCells":
        """Read what was written; raise ValueError or struct.error if the bytes are none of it."""


class StoredCells(Protocol):
    """The cells of one kind as they were written, for evaluating many windows at once."""

    def to_cells(self) -> ValueCells[Any]:
        """Return what was written."""

    def values(self, low: Int64s, high: Int64s, percentile: float) -> AnyArray:
        """Aggregate the tiles from low to before high, for (n,) pairs at once; nan where there is no value.

        float64, of strings object.
        """


def each_once(low: Int64s, high: Int64s, evaluate: Callable[[int, int], float]) -> Float64s:
    """Evaluate (n,) windows, the equal ones among them once."""
    base = int(high.max(initial=0)) + 1
    windows, inverse = np.unique(low * base + high, return_inverse=True)
    return np.array([evaluate(*divmod(window, base)) for window in windows.tolist()])[inverse]


@dataclasses.dataclass
class ArrayReader:
    """Reads arrays from bytes without copying; one entry a tile, if no count is given."""

    raw: bytes
    position: int
    size: int

    def look_at_integers(self) -> "memoryview[int]":
        """Look at the next ``size`` integers, of which none is read yet."""
        return self.part(8 * self.size).cast("q")

    def look_at_doubles(self) -> "memoryview[float]":
        """Look at the next ``size`` doubles, of which none is read yet."""
        return self.part(8 * self.size).cast("d")

    def part(self, size_bytes: int) -> memoryview:
        """Look at the next bytes."""
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
        """Read the next ``count`` numbers of a type."""
        if count < 0:
            raise ValueError(f"a count of {count}")
        array: AnyArray = np.frombuffer(self.raw, dtype=dtype, count=count, offset=self.position)
        self.position += array.nbytes
        return array
