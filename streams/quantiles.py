"""Quantiles within a stated relative error: a DDSketch whose buckets are the leading bits of a double.

A bucket is the sign, the exponent and the first six bits of the fraction: 64 buckets to each power of
two, found without a logarithm, hence the same on every machine. A value of a bucket is at most
``RELATIVE_ERROR`` away from the middle that stands for it. The value of a percentile p of n values is the
bucket of the ``ceil(p * n)``-th of them in rising order (the first, for 0), as SQL's percentile_disc.

A cell holds at most `BUCKETS_MAX` buckets: enough for 63 powers of two, a factor of 9e18 between the
magnitudes of a window. Wider ones halve their resolution until they fit, which doubles the error each
time. That resolution is a function of the set of values, too, and so is the value of a window, however
it is cut into tiles. Magnitudes below 2.2e-308 count as 0.

Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees" (2019), with the linearly interpolated mapping of its implementations, and the uniform
collapse of Epicoco et al., "UDDSketch" (2020).
"""

import dataclasses
import math
import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from typing import Self

import numpy as np

from streams.cells import AnyArray, ArrayReader, Float64s, Int64s, StoredCells, ValueCells, each_once

RELATIVE_ERROR = 2.0**-7
"""Half of the width of a bucket, relative to its lower limit: 0.8 %."""
BUCKETS_MAX = 4096
"""At the sixth halving there is one bucket to each power of two and sign, 4093: so six always suffice."""
_FRACTION_BITS = 6
_SHIFT = 52 - _FRACTION_BITS
_NORMAL = 1 << _FRACTION_BITS
"""The bucket of the smallest number that has an exponent."""
_DOUBLE, _INTEGER = struct.Struct("<d"), struct.Struct("<q")


@dataclasses.dataclass(slots=True)
class Sketch:
    """The values of a tile or a window: counts by bucket, a negative one for negative values."""

    halvings: int
    """How often the resolution was halved."""
    counts: dict[int, int]


class Quantiles(ValueCells[Sketch]):
    """A sketch of each tile."""

    def empty(self) -> Sketch:
        """Return a sketch of no values."""
        return Sketch(0, {})

    def add(self, index: int, value: float, time_ms: int) -> None:
        """Count a finite number in."""
        del time_ms
        sketch = self.cells[index]
        bucket = _bucket(abs(value)) >> sketch.halvings
        bucket = -bucket if value < 0 else bucket
        sketch.counts[bucket] = sketch.counts.get(bucket, 0) + 1
        if len(sketch.counts) > BUCKETS_MAX:
            self.cells[index] = self.merged([sketch])

    def merged(self, cells: Sequence[Sketch]) -> Sketch:
        """Return the sketch of all values."""
        return _Buckets.of(cells).merged()

    def value(self, low: int, high: int, percentile: float) -> float:
        """Return a percentile of the tiles' values; nan for none."""
        return _percentile(self.merged(self.cells[low:high]), percentile)

    def to_bytes(self) -> bytes:
        """Write halvings and sizes, then all buckets, rising within each tile, then their counts."""
        pairs = [pair for cell in self.cells for pair in sorted(cell.counts.items())]
        return b"".join(
            [
                np.array([cell.halvings for cell in self.cells], dtype="u1").tobytes(),
                np.array([len(cell.counts) for cell in self.cells], dtype="<i2").tobytes(),
                np.array([bucket for bucket, _ in pairs], dtype="<i4").tobytes(),
                np.array([count for _, count in pairs], dtype="<i8").tobytes(),
            ]
        )

    @classmethod
    def read(cls, reader: ArrayReader) -> StoredCells:
        """Read the sketches."""
        halvings = reader.array("u1", reader.size)
        sizes = reader.array("<i2", reader.size)
        total = int(sizes.sum(dtype=np.int64))
        return _StoredQuantiles(halvings, sizes, reader.array("<i4", total), reader.array("<i8", total))


@dataclasses.dataclass(frozen=True)
class _StoredQuantiles:
    """As written."""

    halvings: AnyArray
    sizes: AnyArray
    buckets: AnyArray
    counts: Int64s

    @cached_property
    def _ends(self) -> Int64s:
        """Behind which bucket each tile ends, beginning with 0."""
        return np.append(0, np.cumsum(self.sizes, dtype=np.int64))

    @cached_property
    def _all(self) -> "_Buckets":
        halvings = np.repeat(self.halvings, self.sizes).astype(np.int64)
        return _Buckets(self.buckets.astype(np.int64), halvings, self.counts)

    def to_cells(self) -> Quantiles:
        ends = self._ends.tolist()
        pairs = list(zip(self.buckets.tolist(), self.counts.tolist(), strict=True))
        return Quantiles(
            [
                Sketch(halvings, dict(pairs[start:end]))
                for halvings, start, end in zip(self.halvings.tolist(), ends[:-1], ends[1:], strict=True)
            ]
        )

    def values(self, low: Int64s, high: Int64s, percentile: float) -> Float64s:
        ends = self._ends

        def evaluate(first: int, end: int) -> float:
            return _percentile(self._all.between(ends[first], ends[end]).merged(), percentile)

        return each_once(low, high, evaluate)


@dataclasses.dataclass(frozen=True)
class _Buckets:
    """(n,) buckets of any tiles, with the halvings of each."""

    buckets: Int64s
    halvings: Int64s
    counts: Int64s

    @classmethod
    def of(cls, cells: Sequence[Sketch]) -> Self:
        rows = [(bucket, cell.halvings, count) for cell in cells for bucket, count in cell.counts.items()]
        return cls(*np.array(rows, dtype=np.int64).reshape(-1, 3).T)

    def between(self, first: int, end: int) -> Self:
        return type(self)(self.buckets[first:end], self.halvings[first:end], self.counts[first:end])

    def merged(self) -> Sketch:
        """Merge at the finest resolution that all have and at which they fit."""
        halvings = int(self.halvings.max(initial=0))
        while True:
            magnitudes = np.abs(self.buckets) >> halvings - self.halvings
            buckets, inverse = np.unique(np.sign(self.buckets) * magnitudes, return_inverse=True)
            if len(buckets) <= BUCKETS_MAX:
                break
            halvings += 1
        counts = np.zeros(len(buckets), dtype=np.int64)
        np.add.at(counts, inverse, self.counts)
        return Sketch(halvings, dict(zip(buckets.tolist(), counts.tolist(), strict=True)))


def _bucket(magnitude: float) -> int:
    (bits,) = _INTEGER.unpack(_DOUBLE.pack(magnitude))
    bucket: int = bits >> _SHIFT
    return bucket if bucket >= _NORMAL else 0


def _middle(bucket: int, halvings: int) -> float:
    if bucket == 0:
        return 0.0
    bits = (2 * abs(bucket) + 1) << halvings + _SHIFT - 1  # within a power of two, bits are linear
    (middle,) = _DOUBLE.unpack(_INTEGER.pack(bits))
    return math.copysign(middle, bucket)


def _percentile(sketch: Sketch, percentile: float) -> float:
    """Return the middle of the bucket that holds a percentile; the buckets of the sketch rise."""
    share = Fraction(str(percentile))
    rank = max(1, math.ceil(share * sum(sketch.counts.values())))
    reached = 0
    for bucket, count in sketch.counts.items():
        reached += count
        if reached >= rank:
            return _middle(bucket, sketch.halvings)
    return math.nan
