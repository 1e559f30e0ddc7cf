import datetime as dt
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime import times


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [("1s", 1000), ("90m", 5_400_000), ("2h", 7_200_000), ("999999999d", 999_999_999 * 86_400_000)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, expected_ms: int) -> None:
    assert times.duration_ms(text) == expected_ms


@pytest.mark.parametrize("text", ["", "2", "h", "0h", "02h", "-2h", "1.5h", "2H", "2 h", "1000000000d"])
def test_another_duration_is_refused_with_what_can_be_written(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and one of s, m, h, d, as in 2h") as refused:
        times.duration_ms(text)
    assert repr(text) in str(refused.value)


def test_a_time_without_an_offset_is_in_utc() -> None:
    assert times.time_ms("2013-07-03") == 1_372_809_600_000
    assert times.time_ms("2013-07-03T12:00") == times.time_ms("2013-07-03") + 12 * 3_600_000
    assert times.time_ms("2013-07-03T12:00") == times.time_ms("2013-07-03T14:00+02:00")


@given(st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_an_instant_is_the_same_at_every_offset(moment: dt.datetime, offset_minutes: int) -> None:
    utc = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=dt.UTC)
    local = utc.astimezone(dt.timezone(dt.timedelta(minutes=offset_minutes)))
    since_epoch = utc - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert times.instant_ms(local.isoformat()) == since_epoch // dt.timedelta(milliseconds=1)
    assert times.time_ms(local.isoformat()) == times.instant_ms(utc.isoformat())


@pytest.mark.parametrize("text", ["", "yesterday", "2013-13-01", "2013-02-30", "12:00"])
def test_what_is_no_time_is_refused_with_what_can_be_written(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 2013-07-03 or 2013-07-03T12:00") as refused:
        times.time_ms(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-31", "2026-01-31T16:05:00"])
def test_an_instant_needs_an_offset(text: str) -> None:
    with pytest.raises(ValueError, match="write it with an offset, as 2026-01-31T16:05:00Z") as refused:
        times.instant_ms(text)
    assert repr(text) in str(refused.value)


def test_now_is_in_milliseconds_since_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_999_999)
    assert times.now_ms() == 1_700_000_000_123
