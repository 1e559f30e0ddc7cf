"""The search for the record on which a build fails."""

from typing import Any

import hypothesis
from hypothesis import strategies as st

from services.features.defect_search import DefectSearch
from streams.defects import ATTEMPTS_MAX
from tests.unit.features.fakes import order

RECORDS: Any = [order(2 * n, n) for n in range(200)]


@hypothesis.given(st.sets(st.integers(0, 199), max_size=8), st.integers(1, 200))
def test_exactly_the_records_at_fault_are_skipped_in_few_attempts(poison: set[int], fetched: int) -> None:
    search, start, skipped, attempts = DefectSearch(), 0, [], 0
    while start < 200:
        attempts += 1
        read = RECORDS[start : start + fetched]
        records, next_offset = search.bounded(read, read[-1].offset + 1)
        defects = search.defects(records)
        bad = {record.offset for record in records} & {2 * number for number in poison} - defects.keys()
        if bad:
            search.note_failure(len(records), ValueError(min(bad)))
        else:
            skipped += list(defects)
            search.note_success()
            start = (next_offset + 1) // 2
    assert skipped == [2 * number for number in sorted(poison)]
    fetches = -(-200 // fetched)
    assert attempts <= fetches + 8 + len(poison) * (ATTEMPTS_MAX + 2 * 17 + 8)


def test_first_failures_are_waited_for() -> None:
    search = DefectSearch()
    waits = [search.note_failure(10, KeyError("a race")) for _ in range(ATTEMPTS_MAX)]
    assert waits == [False] * (ATTEMPTS_MAX - 1) + [True]
    assert search.is_active
    assert len(search.bounded(RECORDS, 400)[0]) == 5


def test_record_that_fails_even_as_a_defect_is_not_at_fault() -> None:
    search = DefectSearch()
    for _ in range(ATTEMPTS_MAX):
        search.note_failure(1, KeyError("x"))
    assert list(search.defects(RECORDS[:1])) == [0]
    assert not search.note_failure(1, KeyError("x"))
    assert search.defects(RECORDS[:1]) == {}
    assert not search.is_active


def test_failure_without_records_is_waited_for() -> None:
    search = DefectSearch()
    assert not any(search.note_failure(0, KeyError("x")) for _ in range(10))
