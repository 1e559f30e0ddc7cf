"""Exact sums of doubles: the order of the values does not matter, and removing all of them leaves 0. Pure."""

from collections.abc import Iterable, Mapping
from typing import Self

import msgspec


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

    def remove(self, value: float) -> None:
        """Remove a number that was added."""
        self._change(value, -1)

    @property
    def value(self) -> float | None:
        """The mean, rounded once; None without numbers."""
        return self._sum / (self.count << self.shift) if self.count else None

    @property
    def _sum(self) -> int:
        return int.from_bytes(self.scaled, "little", signed=True)

    def _change(self, value: float, sign: int) -> None:
        numerator, denominator = float(value).as_integer_ratio()
        shift, total = denominator.bit_length() - 1, self._sum
        if shift > self.shift:
            total <<= shift - self.shift
            self.shift = shift
        total += sign * (numerator << (self.shift - shift))
        self.count += sign
        if not self.count:  # equal to a mean to which nothing was ever added
            self.shift = 0
        self.scaled = total.to_bytes((total.bit_length() + 8) // 8, "little", signed=True) if total else b""


def means_of(sums: Mapping[str, ExactMean]) -> dict[str, float]:
    """Return the means by name, without those of no numbers."""
    return {name: mean for name, each in sorted(sums.items()) if (mean := each.value) is not None}
