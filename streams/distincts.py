"""Distinct counts: exact up to `EXACT_MAX` values in a window, above that estimated by HyperLogLog.

A value is represented by 64 bits of MurmurHash3, the same in every process and version. A cell holds up to
`EXACT_MAX` hashes, above that the registers of a HyperLogLog with `REGISTERS` registers. Both are functions
of the set of hashes, and so is the value of a window, whichever tiles it consists of.

The estimate is the improved one of Ertl, "New cardinality estimation algorithms for HyperLogLog
sketches" (2017), section 4: unbiased over the whole range, its standard error is
``1.04 / sqrt(REGISTERS)``, 1.6 %. A cell takes at most 4 KiB.
"""

import dataclasses
import math
import struct
from collections.abc import Sequence
from functools import cached_property

import mmh3
import numpy as np
import numpy.typing as npt

from streams.cells import StoredCells, ValueCells, evaluate_distinct
from streams.stored_arrays import AnyArray, ArrayReader, Float64s, Int64s

EXACT_MAX = 512
"""Maximum number of hashes in a cell; that many take the space of the registers."""
_INDEX_BITS = 12
REGISTERS = 1 << _INDEX_BITS
_RANK_MAX = 64 - _INDEX_BITS + 1
_RANK_MASK = (1 << 64 - _INDEX_BITS) - 1
_DENSE = -1
"""The size that is written for a cell of registers."""
_DOUBLE, _INTEGER = struct.Struct("<d"), struct.Struct("<q")

Registers = npt.NDArray[np.uint8]
"""(REGISTERS,): the highest rank of the hashes of each index."""
Distinct = set[int] | Registers


class Distincts(ValueCells[Distinct]):
    """The distinct values in each tile."""

    def empty(self) -> Distinct:
        """Return an empty set."""
        return set()

    def add(self, index: int, value: str | float, time_ms: int) -> None:
        """Add a string or a number; an integer and a double are always different values."""
        del time_ms
        cell, hashed = self.cells[index], _hash(value)
        if isinstance(cell, set):
            cell.add(hashed)
            if len(cell) > EXACT_MAX:
                self.cells[index] = _registers(_array(cell))
        else:
            index_in_cell, bit_length = hashed >> 64 - _INDEX_BITS, (hashed & _RANK_MASK).bit_length()
            cell[index_in_cell] = max(cell[index_in_cell], _RANK_MAX - bit_length)

    def merged(self, cells: Sequence[Distinct]) -> Distinct:
        """Return the union."""
        hashes: set[int] = set().union(*(cell for cell in cells if isinstance(cell, set)))
        dense = [cell for cell in cells if not isinstance(cell, set)]
        if not dense and len(hashes) <= EXACT_MAX:
            return hashes
        return _highest([_registers(_array(hashes)), *dense])

    def value(self, start: int, stop: int, percentile: float) -> float:
        """Return the number of distinct values in the tiles."""
        del percentile
        union = self.merged(self.cells[start:stop])
        return float(len(union)) if isinstance(union, set) else _estimate(union)

    def to_bytes(self) -> bytes:
        """Write all sizes, the hashes of exact cells (rising within each), the registers of the others."""
        sizes = [len(cell) if isinstance(cell, set) else _DENSE for cell in self.cells]
        hashes = [hashed for cell in self.cells if isinstance(cell, set) for hashed in sorted(cell)]
        dense = [cell.tobytes() for cell in self.cells if not isinstance(cell, set)]
        written = np.array(sizes, dtype="<i2").tobytes(), np.array(hashes, dtype="<u8").tobytes()
        return b"".join([*written, *dense])

    @classmethod
    def read(cls, reader: ArrayReader) -> StoredCells:
        """Read the cells."""
        sizes = reader.array("<i2", reader.size).astype(np.int64)
        is_dense = sizes == _DENSE
        hashes = reader.array("<u8", int(sizes[~is_dense].sum()))
        dense = reader.array("u1", int(is_dense.sum()) * REGISTERS).reshape(-1, REGISTERS)
        return _StoredDistincts(sizes, is_dense, hashes, dense)


@dataclasses.dataclass(frozen=True)
class _StoredDistincts:
    sizes: Int64s
    is_dense: npt.NDArray[np.bool_]
    hashes: AnyArray
    dense: Registers

    @cached_property
    def _hash_limits(self) -> Int64s:
        """(tiles + 1,): the index of the first hash of each tile, then the number of hashes."""
        return np.append(0, np.cumsum(np.where(self.is_dense, 0, self.sizes)))

    @cached_property
    def _dense_limits(self) -> Int64s:
        """(tiles + 1,): the index of the first registers of each tile, then the number of all."""
        return np.append(0, np.cumsum(self.is_dense))

    def to_cells(self) -> Distincts:
        hashes, limits = self.hashes.tolist(), self._hash_limits.tolist()
        dense = iter(self.dense)
        return Distincts(
            [
                next(dense).copy() if is_dense else set(hashes[start:stop])
                for is_dense, start, stop in zip(self.is_dense.tolist(), limits[:-1], limits[1:], strict=True)
            ]
        )

    def values(self, starts: Int64s, stops: Int64s, percentile: float) -> Float64s:
        del percentile
        return evaluate_distinct(starts, stops, self._value)

    def _value(self, start: int, stop: int) -> float:
        hashes = np.unique(self.hashes[self._hash_limits[start] : self._hash_limits[stop]])
        dense = self.dense[self._dense_limits[start] : self._dense_limits[stop]]
        if not len(dense) and len(hashes) <= EXACT_MAX:
            return float(len(hashes))
        return _estimate(_highest([_registers(hashes), *dense]))


def _hash(value: str | float) -> int:
    if isinstance(value, str):
        raw = value.encode()
    elif isinstance(value, int):
        raw = _INTEGER.pack(value)
    else:
        raw = _DOUBLE.pack(value + 0.0)  # -0.0 is 0.0
    return mmh3.hash64(raw, signed=False)[0]


def _array(hashes: set[int]) -> AnyArray:
    return np.array(sorted(hashes), dtype="<u8")


def _registers(hashes: AnyArray) -> Registers:
    """Return the registers of (n,) hashes.

    The first bits of a hash are the index of its register; the number of zeros that follow, plus 1, is its
    rank.
    """
    indexes = (hashes >> np.uint64(64 - _INDEX_BITS)).astype(np.int64)
    ranked = (hashes & np.uint64(_RANK_MASK)).astype(np.float64)  # exact: 52 bits fit a double
    _, bit_lengths = np.frexp(ranked)
    registers = np.zeros(REGISTERS, dtype=np.uint8)
    np.maximum.at(registers, indexes, (_RANK_MAX - bit_lengths).astype(np.uint8))
    return registers


def _highest(registers: Sequence[Registers]) -> Registers:
    highest: Registers = np.maximum.reduce(registers)
    return highest


def _estimate(registers: Registers) -> float:
    """Estimate the number of distinct hashes: algorithm 6 of Ertl's paper."""
    counts = np.bincount(registers, minlength=_RANK_MAX + 1).tolist()
    total = REGISTERS * _tau(1 - counts[_RANK_MAX] / REGISTERS)
    for count in reversed(counts[1:_RANK_MAX]):
        total = 0.5 * (total + count)
    total += REGISTERS * _sigma(counts[0] / REGISTERS)
    return float(round(REGISTERS * REGISTERS / (2 * math.log(2)) / total))


def _sigma(x: float) -> float:
    """Return x plus the sum of ``x**2**k * 2**(k - 1)`` over k from 1, for x below 1."""
    total, weight, before = x, 1.0, -1.0
    while total != before:
        before = total
        x *= x
        total += x * weight
        weight *= 2
    return total


def _tau(x: float) -> float:
    """Return a third of ``1 - x`` minus the sum of ``(1 - x**2**-k)**2 * 2**-k`` over k from 1."""
    if x in (0.0, 1.0):
        return 0.0
    total, weight, before = 1 - x, 1.0, -1.0
    while total != before:
        before = total
        x = math.sqrt(x)
        weight *= 0.5
        total -= (1 - x) ** 2 * weight
    return total / 3
