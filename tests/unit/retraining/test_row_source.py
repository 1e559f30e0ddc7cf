"""Kinds of rows are added up over parts; tests/unit/retraining/test_extraction.py runs the queries."""

from services.retraining.row_source import RowCount, sum_of


def test_kinds_that_are_equal_in_several_parts_become_one() -> None:
    one, other = RowCount("a", 2, True, True, 3), RowCount("a", 2, False, True, 1)
    assert sum_of([one, other, one]) == [RowCount("a", 2, True, True, 6), other]
    assert sum_of([]) == []
