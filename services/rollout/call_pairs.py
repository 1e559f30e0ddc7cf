"""Calls of the two versions side by side: how many exceed a quantile of the champion's calls so far. Pure.

All rows of a version in one batch share one call. So a call counts once, and what is compared is the share of
slow calls of both versions within a short unit of wall time: a busy machine slows both.
"""

import bisect
import itertools

import msgspec

from services.monitoring import call_times
from services.rollout.paired_blocks import PairBets

UNIT_MS = 10_000
"""Minimum length of a unit. Bursts on a machine are shorter, or hit both versions."""
LATE_MS = 60_000
"""Wall time after which a unit is complete: partitions are read one after another."""
CALLS_MIN = 50
"""Calls of the champion from which the quantile is known."""


class CallPairs(msgspec.Struct):
    """The units so far."""

    quantile: float = 0.95
    """Calls above this quantile of the champion's are slow."""
    open: dict[int, list[int]] = {}
    """By number of the unit: calls and slow calls of the new version, the same of the champion."""
    carried: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0, 0])
    """The same of complete units in which one of the versions had no call: the next ones are added."""
    latest_ms: int = 0
    last: dict[str, list[int]] = {}
    """The last call by partition and version: wall time and duration."""
    counts: dict[int, int] = {}
    """The champion's calls by limit in microseconds, see `call_times`."""
    limit_us: int = 0
    """Calls above it are slow; 0 while too few are known."""
    worse: PairBets = msgspec.field(default_factory=PairBets)
    within: PairBets = msgspec.field(default_factory=PairBets)
    units: int = 0
    difference: float = 0.0
    """Sum of the differences of the shares of slow calls."""

    def add(self, place: str, wall_ms: int, call_us: int, *, is_own: bool) -> None:
        """Count a call of a row, unless the row before it in its place was of the same call.

        Args:
            place: Partition and version.
            wall_ms: When the row was scored.
            call_us: How long the call took.
            is_own: Whether it is the new version's.
        """
        if self.last.get(place) == [wall_ms, call_us]:
            return
        self.last[place] = [wall_ms, call_us]
        self.latest_ms = max(self.latest_ms, wall_ms)
        if self.limit_us and wall_ms > self.latest_ms - LATE_MS:
            unit = self.open.setdefault(wall_ms // UNIT_MS, [0, 0, 0, 0])
            unit[0 if is_own else 2] += 1
            unit[1 if is_own else 3] += call_us > self.limit_us
        if not is_own:
            cell = call_times.limit_of(call_us)
            self.counts[cell] = self.counts.get(cell, 0) + 1
            if not self.limit_us and sum(self.counts.values()) >= CALLS_MIN:
                self.limit_us = _quantile(self.counts, self.quantile)

    def close(self, margin: float) -> None:
        """Bet on the units that are complete; how often this is called does not matter."""
        complete = [
            number for number in sorted(self.open) if (number + 1) * UNIT_MS + LATE_MS <= self.latest_ms
        ]
        for number in complete:
            unit = self.open.pop(number)
            self.carried = [before + now for before, now in zip(self.carried, unit, strict=True)]
            own, own_slow, other, other_slow = self.carried
            if own and other:
                self.carried = [0, 0, 0, 0]
                difference = own_slow / own - other_slow / other
                self.worse.add(difference)
                self.within.add(margin - difference)
                self.units += 1
                self.difference += difference


def _quantile(counts: dict[int, int], share: float) -> int:
    limits = sorted(counts)
    totals = list(itertools.accumulate(counts[limit] for limit in limits))
    return limits[bisect.bisect_left(totals, share * totals[-1])]
