"""Hooks of schemathesis: only times in the past, as no schema can state that later ones are rejected."""

import datetime as dt

import schemathesis
from hypothesis import strategies

PAST = strategies.datetimes(max_value=dt.datetime(2026, 1, 1), timezones=strategies.just(dt.UTC))  # noqa: DTZ001  # a bound without a zone; the zone is in timezones

schemathesis.openapi.format("date-time", PAST.map(lambda moment: moment.isoformat()))
