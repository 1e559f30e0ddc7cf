"""Quantiles within a stated relative error: a DDSketch whose buckets are the leading bits of a double.

A bucket is the sign, the exponent and the first six bits of the fraction: 64 buckets for each power of two,
found without a logarithm, hence the same on every machine. A value differs from the middle of its bucket by
at most ``RELATIVE_ERROR``. The percentile p of n values is the middle of the bucket that holds the ``ceil(p *
n)``-th value in rising order (the first for p = 0), as with SQL's percentile_disc.

A cell holds at most `BUCKETS_MAX` buckets: enough for 63 powers of two, a factor of 9e18 between the
magnitudes of a window. Wider ones halve their resolution until they fit; each halving doubles the error. That
resolution is a function of the set of values as well, and so is the value of a window, whichever tiles it
consists of. Magnitudes below 2.2e-308 count as 0.

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

from streams.cells import StoredCells, ValueCells, evaluate_distinct
from streams.stored_arrays import AnyArray, ArrayReader, Float64s, Int64s

RELATIVE_ERROR = 2.0**-7
"""Half of the width of a bucket, relative to its lower limit: 0.8 %."""
BUCKETS_MAX = 4096
"""Six halvings always suffice: after them there is one bucket per power of two and sign, 4093 in total."""
_FRACTION_BITS = 6
_SHIFT = 52 - _FRACTION_BITS
_NORMAL = 1 << _FRACTION_BITS
"""The bucket of the smallest normal number."""
_DOUBLE, _INTEGER = struct.Struct("<d"), struct.Struct("<q")


@dataclasses.dataclass(slots=True)
class Sketch:
    """The values of a tile or a window: counts by bucket; buckets of negative values are negative."""

    halvings: int
    """How many times the resolution was halved."""
    counts: dict[int, int]


class Quantiles(ValueCells[Sketch]):
    """The sketch of each tile."""

    def empty(self) -> Sketch:
        """Return a sketch of no values."""
        return Sketch(0, {})

    def add(self, index: int, value: float, time_ms: int) -> None:
        """Add a finite number."""
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

    def value(self, start: int, stop: int, percentile: float) -> float:
        """Return a percentile of the tiles' values; nan if there are none."""
        return _percentile(self.merged(self.cells[start:stop]), percentile)

    def to_bytes(self) -> bytes:
        """Write all halvings, all sizes, all buckets (rising within each tile), all counts of buckets."""
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
    """Sketches as they were written."""

    halvings: AnyArray
    sizes: AnyArray
    buckets: AnyArray
    counts: Int64s

    @cached_property
    def _limits(self) -> Int64s:
        """(tiles + 1,): the index of the first bucket of each tile, then the number of buckets."""
        return np.append(0, np.cumsum(self.sizes, dtype=np.int64))

    @cached_property
    def _all(self) -> "_Buckets":
        halvings = np.repeat(self.halvings, self.sizes).astype(np.int64)
        return _Buckets(self.buckets.astype(np.int64), halvings, self.counts)

    def to_cells(self) -> Quantiles:
        limits = self._limits.tolist()
        pairs = list(zip(self.buckets.tolist(), self.counts.tolist(), strict=True))
        return Quantiles(
            [
                Sketch(halvings, dict(pairs[start:stop]))
                for halvings, start, stop in zip(self.halvings.tolist(), limits[:-1], limits[1:], strict=True)
            ]
        )

    def values(self, starts: Int64s, stops: Int64s, percentile: float) -> Float64s:
        limits = self._limits

        def evaluate(start: int, stop: int) -> float:
            return _percentile(self._all.between(limits[start], limits[stop]).merged(), percentile)

        return evaluate_distinct(starts, stops, evaluate)


@dataclasses.dataclass(frozen=True)
class _Buckets:
    """(n,) buckets of any tiles, with the halvings and the count of each."""

    buckets: Int64s
    halvings: Int64s
    counts: Int64s

    @classmethod
    def of(cls, cells: Sequence[Sketch]) -> Self:
        rows = [(bucket, cell.halvings, count) for cell in cells for bucket, count in cell.counts.items()]
        return cls(*np.array(rows, dtype=np.int64).reshape(-1, 3).T)

    def between(self, start: int, stop: int) -> Self:
        return type(self)(self.buckets[start:stop], self.halvings[start:stop], self.counts[start:stop])

    def merged(self) -> Sketch:
        """Merge at the finest resolution that all tiles have and at which the buckets fit."""
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
    """Return the middle of the bucket that holds a percentile; the buckets of the sketch must be rising."""
    share = Fraction(str(percentile))
    rank = max(1, math.ceil(share * sum(sketch.counts.values())))
    reached = 0
    for bucket, count in sketch.counts.items():
        reached += count
        if reached >= rank:
            return _middle(bucket, sketch.halvings)
    return math.nan
