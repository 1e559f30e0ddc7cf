"""Hooks of schemathesis: times of the past alone. What is dated ahead is refused, as no schema can say."""

import datetime as dt

import schemathesis
from hypothesis import strategies

PAST = strategies.datetimes(max_value=dt.datetime(2026, 1, 1), timezones=strategies.just(dt.UTC))  # noqa: DTZ001  # of the range; the zone is beside it

schemathesis.openapi.format("date-time", PAST.map(lambda moment: moment.isoformat()))
