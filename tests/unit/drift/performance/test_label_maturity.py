"""The share of a cohort's labels that have come, learned from past delays."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.performance.label_maturity import DELAY_CELLS, LabelDelays

HOUR_MS = 3_600_000
quick = settings(max_examples=60)


def shares_of(delays, ages_ms):
    found = delays.shares(np.array(ages_ms))
    assert found is not None
    return found.tolist()


@quick
@given(st.lists(st.integers(0, 48 * HOUR_MS), min_size=100, max_size=200), st.integers(0, 48 * HOUR_MS))
def test_maturity_never_counts_a_label_that_may_be_missing(delays_ms, age_ms):
    delays = LabelDelays(48 * HOUR_MS)
    counts = np.zeros(DELAY_CELLS, dtype=np.int64)
    for delay_ms in delays_ms:
        counts[delays.cell_of(delay_ms)] += 1
    delays.learn(counts)
    share, whole = shares_of(delays, [age_ms, 48 * HOUR_MS])
    assert share <= sum(delay_ms <= age_ms for delay_ms in delays_ms) / len(delays_ms)
    assert whole == 1


def test_maturity_is_unknown_without_delays_and_follows_delays_that_change():
    delays, counts = LabelDelays(HOUR_MS), np.zeros(DELAY_CELLS, dtype=np.int64)
    assert delays.shares(np.array([HOUR_MS])) is None
    counts[10] = 90_000
    delays.learn(counts)
    counts[:] = 0
    counts[-1] = 90_000
    for _ in range(4):
        delays.learn(counts)
    (share,) = shares_of(delays, [HOUR_MS - 1])
    assert share < 0.1


def test_delays_below_zero_and_beyond_the_horizon_belong_to_the_outer_cells():
    delays = LabelDelays(HOUR_MS)
    assert delays.cell_of(-5) == 0
    assert delays.cell_of(HOUR_MS) == delays.cell_of(2 * HOUR_MS) == DELAY_CELLS - 1
