"""Times of calls: counts by cell, whose quantiles are at most 19 % above the exact ones."""

import math

from hypothesis import given
from hypothesis import strategies as st

from services.monitoring import call_times

TIMES = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=50)


@given(TIMES)
def test_quantiles_are_at_least_the_exact_ones_and_less_than_a_cell_above(times):
    counts: dict[int, int] = {}
    for each in times:
        limit = call_times.limit_of(each)
        counts[limit] = counts.get(limit, 0) + 1
    found = call_times.record_of(counts)
    assert found is not None
    assert call_times.counts_of(found) == counts
    for share, value in zip(call_times.SHARES, (found.p50_ms, found.p95_ms, found.p99_ms), strict=True):
        exact = sorted(times)[math.ceil(share * len(times)) - 1]
        assert exact <= round(value * 1000) <= max(1.2 * exact + 1, 1)


def test_without_rows_there_are_no_times():
    assert call_times.record_of({}) is None
