"""Exact sums of doubles: the order of the values does not matter, and removing all of them leaves 0. Pure."""

from collections.abc import Iterable, Mapping
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

_MANTISSA_BITS = 53
_LOW_BITS = 26
"""Mantissas are summed in two halves, each exact in a double for up to 2**26 values."""


class ExactMean(msgspec.Struct, array_like=True):
    """The mean of numbers, from their exact sum.

    Every finite double is an integer times a power of two, so the sum is an integer in units of 2**-shift.

    >>> ExactMean.of([1e16, 1.0, -1e16]).value  # sum() would return 0
    0.3333333333333333
    """

    count: int = 0
    shift: int = 0
    scaled: bytes = b""
    """The sum in these units, little-endian, signed: it needs more than 64 bits."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the mean of numbers."""
        mean = cls()
        for value in values:
            mean.add(value)
        return mean

    def add(self, value: float) -> None:
        """Add a finite number."""
        self._change(value, 1)

    def add_all(self, values: npt.NDArray[np.float64]) -> None:
        """Add finite numbers ``(n,)``, at most 2**26: for many, 20 times faster than one by one.

        Numbers with the same exponent are summed as integers.
        """
        fractions, exponents = np.frexp(values)
        mantissas = (fractions * 2.0**_MANTISSA_BITS).astype(np.int64)
        lowest = int(exponents.min(initial=0))
        high, low = (
            np.bincount(exponents - lowest, weights=half)
            for half in (mantissas >> _LOW_BITS, mantissas & (2**_LOW_BITS - 1))
        )
        total, shift = 0, _MANTISSA_BITS - lowest
        for place in np.flatnonzero((high != 0) | (low != 0)).tolist():
            total += ((int(high[place]) << _LOW_BITS) + int(low[place])) << place
        self._add(total, shift, len(values))

    def merge(self, other: "ExactMean") -> None:
        """Add all numbers of another one."""
        self._add(int.from_bytes(other.scaled, "little", signed=True), other.shift, other.count)

    def remove(self, value: float) -> None:
        """Remove a number that was added."""
        self._change(value, -1)

    @property
    def value(self) -> float | None:
        """The mean, rounded once; None without numbers."""
        return self._sum / (self.count << self.shift) if self.count else None

    @property
    def units(self) -> int:
        """The exact sum, in units of 2**-shift."""
        return self._sum

    @property
    def sum(self) -> float:
        """The sum, rounded once."""
        return self._sum / (1 << self.shift)

    @property
    def _sum(self) -> int:
        return int.from_bytes(self.scaled, "little", signed=True)

    def _change(self, value: float, sign: int) -> None:
        numerator, denominator = float(value).as_integer_ratio()
        self._add(sign * numerator, denominator.bit_length() - 1, sign)

    def _add(self, part: int, shift: int, count: int) -> None:
        """Add ``part`` units of 2**-shift, which are the sum of ``count`` numbers.

        Equal sums have equal units, however their numbers were added.
        """
        common = max(shift, self.shift)
        total = (self._sum << common - self.shift) + (part << common - shift)
        spare = min(common, (total & -total).bit_length() - 1) if total else common
        total, self.shift = total >> spare, common - spare
        self.count += count
        self.scaled = total.to_bytes((total.bit_length() + 8) // 8, "little", signed=True) if total else b""


def means_of(sums: Mapping[str, ExactMean]) -> dict[str, float]:
    """Return the means by name, without those of no numbers."""
    return {name: mean for name, each in sorted(sums.items()) if (mean := each.value) is not None}
