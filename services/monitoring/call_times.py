"""How long the calls of a model took: counts that add up, in cells that end at fixed times. Pure."""

import bisect
import itertools
from collections.abc import Mapping

from streams.records import CallTimes

CELLS_TO_DOUBLE = 4
_CELLS = {round(2 ** (cell / CELLS_TO_DOUBLE)): cell for cell in range(125)}
LIMITS_US = sorted(_CELLS)
"""Limits of the cells in microseconds, 19 % apart, from 1 us to more than the largest 32-bit number."""
SHARES = (0.5, 0.95, 0.99)


def limit_of(call_us: int) -> int:
    """Return the limit of the cell of a time in microseconds.

    >>> limit_of(1000), limit_of(1025), limit_of(0)
    (1024, 1218, 1)
    """
    return LIMITS_US[bisect.bisect_left(LIMITS_US, call_us)]


def cell_of(call_us: int) -> int:
    """Return the number of the cell of a time: means of cells compare times by their ratio.

    >>> cell_of(1000), cell_of(2000)
    (40, 44)
    """
    return _CELLS[limit_of(call_us)]


def quantiles_us(counts: Mapping[int, int]) -> list[int]:
    """Return the median, the 95th and the 99th percentile, each as the limit of its cell.

    Args:
        counts: Rows by limit in microseconds, at least one.
    """
    limits = sorted(counts)
    totals = list(itertools.accumulate(counts[limit] for limit in limits))
    return [limits[bisect.bisect_left(totals, share * totals[-1])] for share in SHARES]


def record_of(counts: Mapping[int, int]) -> CallTimes | None:
    """Return the counts, with their quantiles, for a report; None without any."""
    if not counts:
        return None
    p50_us, p95_us, p99_us = quantiles_us(counts)
    return CallTimes(
        p50_ms=p50_us / 1000,
        p95_ms=p95_us / 1000,
        p99_ms=p99_us / 1000,
        counts={str(limit): count for limit, count in sorted(counts.items())},
    )


def counts_of(found: CallTimes) -> dict[int, int]:
    """Return the counts of a report by limit in microseconds."""
    return {int(limit): count for limit, count in found.counts.items()}
