"""What happened on the days of the year."""

import datetime as dt

from services.demo.days import Days


def test_days_name_unusual_events_and_the_share_before(days: Days) -> None:
    told = days.summary(dt.date(2013, 3, 7), dt.date(2013, 3, 10))
    assert told == (
        "30% late, 20% in the four weeks before; heavy rain 8 Mar (2.0 in); cancelled 8 Mar (30%); "
        "Pancake Day"
    )


def test_calm_days_have_only_their_delays(days: Days) -> None:
    assert (
        days.summary(dt.date(2013, 3, 20), dt.date(2013, 3, 21)) == "20% late, 21% in the four weeks before"
    )
    assert days.summary(dt.date(2014, 3, 20), dt.date(2014, 3, 21)) == "no flights"
