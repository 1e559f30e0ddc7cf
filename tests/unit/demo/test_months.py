import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from services.demo import months
from services.demo.months import Calendar


def test_months_begin_at_midnight_in_new_york_also_in_summer_time() -> None:
    july = months.local_midnight_ms(dt.date(2013, 7, 1))
    assert july == round(dt.datetime(2013, 7, 1, 4, tzinfo=dt.UTC).timestamp() * 1000)
    assert months.month_of(np.array([july - 1, july])).tolist() == [5, 6]


def test_a_calendar_may_cross_the_end_of_a_year() -> None:
    calendar = Calendar.of_months(ZoneInfo("UTC"), dt.date(2025, 11, 1), 3, dt.date(2025, 12, 5))
    assert calendar.names == ("2025-11", "2025-12", "2026-01")
    assert calendar.end_ms == round(dt.datetime(2026, 2, 1, tzinfo=dt.UTC).timestamp() * 1000)
    assert calendar.month_end_ms("2025-12") == calendar.month_start_ms("2026-01")
    assert calendar.month_end_ms("2026-01") == calendar.end_ms
    assert calendar.day_of(calendar.scoring_start_ms) == dt.date(2025, 12, 5)


def test_times_outside_the_year_go_to_its_ends() -> None:
    times = np.array([months.YEAR_START_MS - 1, months.YEAR_END_MS])
    assert months.month_of(times).tolist() == [0, 11]


def test_area_under_the_curve_equals_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(7)
    labels = (rng.random(80) < 0.4).astype(float)
    scores = np.round(rng.random(80), 1)
    positives, negatives = scores[labels == 1], scores[labels == 0]
    pairs = [(a > b) + 0.5 * (a == b) for a in positives for b in negatives]
    assert months.area_under_curve(labels, scores) == pytest.approx(np.mean(pairs))


def test_area_is_unknown_with_one_class() -> None:
    assert months.area_under_curve(np.ones(3), np.array([0.1, 0.2, 0.3])) is None
