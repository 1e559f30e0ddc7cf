"""Times and durations as people write them, and the wall clock in milliseconds."""

import datetime as dt
import re
from collections.abc import Mapping

from streams import codec

now_ms = codec.now_ms
_UNITS_MS: Mapping[str, int] = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([1-9]\d{0,8})([smhd])")


def duration_ms(text: str) -> int:
    """Read a duration in milliseconds; ValueError with what can be written.

    >>> duration_ms("2h")
    7200000
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"cannot read {text!r}: write a number and one of s, m, h, d, as in 2h")
    return int(match[1]) * _UNITS_MS[match[2]]


def time_ms(text: str) -> int:
    """Read a day or a time, in UTC where no offset is given; ValueError with what can be written.

    >>> time_ms("1970-01-02")
    86400000
    """
    moment = _moment(text)
    if moment is None:
        raise ValueError(f"cannot read the time {text!r}: write it as 2013-07-03 or 2013-07-03T12:00")
    return codec.epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))


def instant_ms(text: str) -> int:
    """Read a time with an offset (RFC 3339); ValueError with what can be written.

    >>> instant_ms("1970-01-01T01:00:00+01:00")
    0
    """
    moment = _moment(text)
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"cannot read the time {text!r}: write it with an offset, as 2026-01-31T16:05:00Z")
    return codec.epoch_ms(moment)


def day(time_ms: int) -> str:
    """Write the day of a time in UTC.

    >>> day(86_400_000)
    '1970-01-02'
    """
    return (codec.EPOCH + time_ms * codec.MILLISECOND).strftime("%Y-%m-%d")


def minute(time_ms: int) -> str:
    """Write a time in UTC without its seconds.

    >>> minute(60_000)
    '1970-01-01 00:01 UTC'
    """
    return (codec.EPOCH + time_ms * codec.MILLISECOND).strftime("%Y-%m-%d %H:%M UTC")


def _moment(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None
