"""Exact sums of the numbers of several features, for their means and standard deviations. Pure.

Within the range of the reference, a number counts in whole steps of at most 2^-31 of the range, from its
lower end; so it is off by less than a billionth of the range. Sums of steps and of their squares are
integers: they do not depend on the order and the size of the chunks. Numbers outside the range are summed
exactly as they are, which is slower, and counted by their distance from it for the quantiles.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.binning import distance_cells
from services.drift.binning.distance_cells import Tail
from services.drift.performance.exact_sums import ExactMean

STEP_BITS = 32
"""Maximum steps within the range of a feature, as a power of two."""
HALF_BITS = 16
"""Steps are split in two halves, so that the sum of the products of a block is exact in a double."""
BLOCK_FEATURES, BLOCK_ROWS = 32, 512
"""Numbers summed at once: with all intermediate results they fit into the second-level cache of a core."""
OUTSIDE_BUFFERED_MAX = 16_384
"""Numbers outside the range in the buffer before they are summed together."""
DISTANCE_MAX = 1e150
"""Distances from the range are cut here, because the mean of their squares must stay finite."""
WIDTH_MAX = 1e300
"""Maximum width of a range; all numbers count as outside a wider one."""
LARGE_BITS = 1000
"""A variance of more bits may not fit into a double."""
_SUMS = 5
"""Sums of a feature: of the high and low halves, and of their products."""

Numbers = npt.NDArray[np.float64]


class ValueSumsState(msgspec.Struct, array_like=True):
    """The sums of one feature."""

    count: int = 0
    """Finite numbers."""
    inside: list[int] = []
    outside: ExactMean = msgspec.field(default_factory=ExactMean)
    """Distances of the numbers outside the range from its lower end."""
    squares: ExactMean = msgspec.field(default_factory=ExactMean)
    low: float | None = None
    """Least number outside the range."""
    high: float | None = None
    """Largest number outside the range."""
    below: dict[int, int] = {}
    """Numbers below the range by their cell, see `distance_cells`; none of those that an older version
    counted."""
    above: dict[int, int] = {}
    """The same of the numbers above the range."""


class MeanAndDeviation(NamedTuple):
    """Mean and standard deviation of the numbers of one feature."""

    mean: float
    standard_deviation: float | None
    """Standard deviation of the sample; None for a single number."""


class ValueSums:
    """The sums of several features within one window."""

    def __init__(self, ranges: Sequence[tuple[float, float]], states: Sequence[ValueSumsState] = ()) -> None:
        """Start empty, or from the states of the same features.

        Args:
            ranges: Lower end of the range of each feature, and the number above its upper end.
            states: One for each feature, or none.
        """
        self._ranges = list(ranges)
        self._origins = np.array([low for low, _ in ranges], dtype=np.float64)[:, None]
        widths = [high - low if high - low < WIDTH_MAX else 0.0 for low, high in ranges]
        self._bits = [_step_bits(width) for width in widths]
        self._scales = np.array([2.0**bits for bits in self._bits], dtype=np.float64)[:, None]
        self._widths = np.array(widths, dtype=np.float64)[:, None]
        self._states = list(states) or [ValueSumsState() for _ in ranges]
        self._counts = np.array([each.count for each in self._states], dtype=np.int64)
        self._inside = np.zeros((_SUMS, len(ranges)), dtype=np.int64)
        for number, each in enumerate(self._states):
            self._inside[:, number] = each.inside or 0
        self._outside: list[tuple[npt.NDArray[np.intp], Numbers]] = []
        self._buffered = 0

    def add(self, values: Numbers) -> None:
        """Add numbers ``(n_features, n_rows)``; those that are not finite are left out."""
        features, rows = values.shape
        for first in range(0, features, BLOCK_FEATURES):
            block = slice(first, first + BLOCK_FEATURES)
            for start in range(0, rows, BLOCK_ROWS):
                self._add_block(block, values[block, start : start + BLOCK_ROWS])

    def states(self) -> list[ValueSumsState]:
        """Return what `__init__` takes."""
        self._sum_outside()
        for each, count, inside in zip(
            self._states, self._counts.tolist(), self._inside.T.tolist(), strict=True
        ):
            each.count, each.inside = count, inside
            each.below, each.above = dict(sorted(each.below.items())), dict(sorted(each.above.items()))
        return self._states

    def mean_and_deviation(self, feature: int) -> MeanAndDeviation | None:
        """Return the figures of a feature, from its exact sums; None without numbers."""
        self._sum_outside()
        state, count = self._states[feature], int(self._counts[feature])
        if not count:
            return None
        bits, outside, squared = self._bits[feature], state.outside, state.squares
        unit = max(bits, outside.shift, -(-squared.shift // 2), 0)
        high, low, high_high, high_low, low_low = self._inside[:, feature].tolist()
        steps = (high << HALF_BITS) + low
        products = (high_high << 2 * HALF_BITS) + (high_low << HALF_BITS + 1) + low_low
        total = (steps << unit - bits) + (outside.units << unit - outside.shift)
        squares = (products << 2 * (unit - bits)) + (squared.units << 2 * unit - squared.shift)
        mean = float(self._origins[feature, 0]) + total / (count << unit)
        if count == 1:
            return MeanAndDeviation(mean, None)
        spread, of = count * squares - total * total, count * (count - 1) << 2 * unit
        return MeanAndDeviation(mean, _root(spread, of))

    def tails(self, feature: int) -> tuple[Tail | None, Tail | None]:
        """Return the numbers below the range of a feature, and those above; None without any."""
        self._sum_outside()
        state, (low, high) = self._states[feature], self._ranges[feature]
        return _tail(state.below, state, low, low, high, sign=-1), _tail(state.above, state, high, low, high)

    def _add_block(self, block: slice, values: Numbers) -> None:
        distances = values - self._origins[block]
        with np.errstate(invalid="ignore"):
            inside = distances >= 0
            inside &= distances < self._widths[block]
        counts = np.full(len(values), values.shape[1])
        if not inside.all():
            counts = np.count_nonzero(inside, axis=1)
            self._take_outside(block.start, values, ~inside)
            distances[~inside] = 0.0
        self._counts[block] += counts
        distances *= self._scales[block]
        np.rint(distances, out=distances)
        high = np.floor(distances * 2.0**-HALF_BITS)
        distances -= high * 2.0**HALF_BITS
        sums = [high.sum(axis=1), distances.sum(axis=1)]
        sums += [
            np.einsum("ij,ij->i", first, second)
            for first, second in ((high, high), (high, distances), (distances, distances))
        ]
        self._inside[:, block] += np.array(sums).astype(np.int64)

    def _take_outside(self, first: int, values: Numbers, outside: npt.NDArray[np.bool_]) -> None:
        features, rows = np.nonzero(outside & np.isfinite(values))
        if len(features):
            self._outside.append((features + first, values[features, rows]))
            self._buffered += len(features)
            if self._buffered >= OUTSIDE_BUFFERED_MAX:
                self._sum_outside()

    def _sum_outside(self) -> None:
        if not self._outside:
            return
        features = np.concatenate([each for each, _ in self._outside])
        values = np.concatenate([each for _, each in self._outside])
        self._outside, self._buffered = [], 0
        order = np.argsort(features, kind="stable")
        found, starts = np.unique(features[order], return_index=True)
        for feature, part in zip(found.tolist(), np.split(values[order], starts[1:]), strict=True):
            self._counts[feature] += len(part)
            _add_outside(self._states[feature], part, *self._ranges[feature])


def _add_outside(state: ValueSumsState, values: Numbers, origin: float, end: float) -> None:
    with np.errstate(over="ignore"):
        distances = np.clip(values - origin, -DISTANCE_MAX, DISTANCE_MAX)
    state.outside.add_all(distances)
    state.squares.add_all(distances * distances)
    low, high = float(values.min()), float(values.max())
    state.low = low if state.low is None else min(state.low, low)
    state.high = high if state.high is None else max(state.high, high)
    with np.errstate(over="ignore"):
        below, above = origin - values[values < origin], values[values >= end] - end
    unit = distance_cells.unit_of(origin, end)
    for counted, far in ((state.below, below), (state.above, above)):
        cells, counts = np.unique(distance_cells.cells_of(far, unit), return_counts=True)
        for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
            counted[cell] = counted.get(cell, 0) + count


def _tail(
    counted: Mapping[int, int], state: ValueSumsState, end: float, low: float, high: float, *, sign: int = 1
) -> Tail | None:
    """Return the numbers on one side of a range, within the least and the largest of them."""
    if not counted:
        return None
    cells = np.array(sorted(counted), dtype=np.int64)[::sign]
    counts = np.array([counted[cell] for cell in cells.tolist()], dtype=np.int64)
    near, far = distance_cells.bounds_of(cells, distance_cells.unit_of(low, high))
    bounds = (end + near, end + far) if sign > 0 else (end - far, end - near)
    lower, upper = (np.clip(each, state.low, state.high) for each in bounds)
    return Tail(lower, upper, counts)


def _step_bits(width: float) -> int:
    """Return the power of two by which a range is multiplied to have 2**31 to 2**32 steps."""
    return min(STEP_BITS - math.frexp(width)[1], 1000)


def _root(spread: int, of: int) -> float:
    """Return the root of a fraction, which may be too large for a double."""
    if spread.bit_length() - of.bit_length() > LARGE_BITS:
        return float(math.isqrt(spread // of))
    return math.sqrt(max(spread, 0) / of)
