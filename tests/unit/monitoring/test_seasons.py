"""The season of an event time."""

import datetime as dt

import numpy as np
import pytest

from services.monitoring.seasons import seasons_of
from services.runtime.declaration import Part

TIMES = [
    dt.datetime(1970, 1, 1, 0, 59, tzinfo=dt.UTC),
    dt.datetime(2013, 2, 28, 23, 59, tzinfo=dt.UTC),
    dt.datetime(2013, 12, 30, 7, tzinfo=dt.UTC),
]
TIMES_MS = np.array([round(each.timestamp() * 1000) for each in TIMES], dtype=np.int64)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], [0, 0, 0]),
        (["hour"], [each.hour for each in TIMES]),
        (["weekday"], [each.weekday() for each in TIMES]),
        (["month"], [each.month - 1 for each in TIMES]),
        (["weekday", "hour"], [each.weekday() * 24 + each.hour for each in TIMES]),
    ],
)
def test_seasons_are_those_of_the_calendar_in_utc(parts: list[Part], expected: list[int]) -> None:
    assert seasons_of(TIMES_MS, parts).tolist() == expected
