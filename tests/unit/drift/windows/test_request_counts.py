"""Requests by block of time: exact in any order, and unknown where an older version has counted."""

import random

import msgspec
import pytest

from services.drift.windows.request_counts import RequestCounts
from services.monitoring import call_times


def added(rows, sums=None):
    sums = sums or RequestCounts()
    for block, call_us in rows:
        sums.answered[block] += 1
        sums.add_call(block, call_us, 1)
    return sums


def test_parts_in_any_order_have_the_sums_of_the_whole():
    chance = random.Random(1)
    rows = [(chance.randrange(16), chance.randrange(1, 10**6)) for _ in range(300)]
    whole = added(rows)
    stored = msgspec.json.decode(msgspec.json.encode(added(rows[200:][::-1])), type=RequestCounts)
    assert added(rows[:200], stored) == whole
    parts = added(rows[:100])
    parts.merge(added(rows[100:]))
    assert parts == whole
    assert sum(whole.call_cells) == sum(call_times.cell_of(call_us) for _, call_us in rows)


@pytest.mark.parametrize(("requests", "known"), [(3, True), (4, False)])
def test_sums_of_a_window_that_an_older_version_began_are_unknown(requests, known):
    assert (added([(0, 5), (1, 5), (15, 7)]).record(requests) is not None) == known
