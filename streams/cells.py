"""Partial aggregates that are more than a number: one mergeable cell for each tile of a column.

A cell is a function of the set of (event time, value) pairs in its tile. So neither the order of the events
nor the way in which cells were merged changes a byte of it. Each kind of cell has its own module:
`streams.ends`, `streams.distincts`, `streams.quantiles`, and `streams.sessions` for the tiles themselves.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from streams.stored_arrays import AnyArray, ArrayReader, Float64s, Int64s

Cell = TypeVar("Cell")


class Cells(abc.ABC, Generic[Cell]):
    """The cells of one kind, one per tile, for adding events."""

    def __init__(self, cells: list[Cell] | None = None) -> None:
        """Start without tiles, or with cells; the list becomes this object's own."""
        self.cells: list[Cell] = cells or []

    @abc.abstractmethod
    def empty(self) -> Cell:
        """Make a cell without values."""

    @abc.abstractmethod
    def merged(self, cells: Sequence[Cell]) -> Cell:
        """Merge cells into a new one; the given ones do not change."""

    @abc.abstractmethod
    def to_bytes(self) -> bytes:
        """Write the cells; equal sets of events give equal bytes."""

    def insert(self, index: int) -> None:
        """Insert a tile without values."""
        self.cells.insert(index, self.empty())

    def extend(self, other: Self) -> None:
        """Append the tiles of another."""
        self.cells += [self.merged([cell]) for cell in other.cells]

    def regroup(self, start: int, stop: int, groups: Sequence[Sequence[int]]) -> None:
        """Replace the tiles from ``start`` to ``stop`` (exclusive) by one for each group of tile indexes."""
        self.cells[start:stop] = [
            self.cells[group[0]] if len(group) == 1 else self.merged([self.cells[i] for i in group])
            for group in groups
        ]

    def clear(self, index: int) -> None:
        """Forget the values of a tile."""
        self.cells[index] = self.empty()

    def drop(self, tiles: int) -> None:
        """Remove the oldest tiles."""
        del self.cells[:tiles]


class ValueCells(Cells[Cell]):
    """Cells that hold what some functions need of a column's values."""

    @abc.abstractmethod
    def add(self, index: int, value: Any, time_ms: int) -> None:
        """Add the value of an event to a tile."""

    @abc.abstractmethod
    def value(self, start: int, stop: int, percentile: float) -> float | str:
        """Aggregate the tiles from ``start`` to ``stop`` (exclusive); nan if there is no value."""

    @classmethod
    @abc.abstractmethod
    def read(cls, reader: ArrayReader) -> "StoredCells":
        """Read what was written; raise ValueError or struct.error if the bytes are no such cells."""


class StoredCells(Protocol):
    """The cells of one kind as they were written, for evaluating many windows at once."""

    def to_cells(self) -> ValueCells[Any]:
        """Return the cells for adding events."""

    def values(self, starts: Int64s, stops: Int64s, percentile: float) -> AnyArray:
        """Aggregate the tiles from start to stop (exclusive) of (n,) windows; nan if there is no value.

        Returns (n,) float64, with strings object.
        """


def evaluate_distinct(starts: Int64s, stops: Int64s, evaluate: Callable[[int, int], float]) -> Float64s:
    """Evaluate (n,) windows, equal ones only once."""
    base = int(stops.max(initial=0)) + 1
    windows, inverse = np.unique(starts * base + stops, return_inverse=True)
    return np.array([evaluate(*divmod(window, base)) for window in windows.tolist()])[inverse]
