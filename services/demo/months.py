"""The months of a world in its local time: those of the flights, and those of others as a `Calendar`."""

import dataclasses
import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

ZONE = ZoneInfo("America/New_York")
YEAR = 2013

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Calendar:
    """When a world begins, when a model answers from, and its months."""

    zone: ZoneInfo
    starts_ms: tuple[int, ...]
    """The start of each month, in order."""
    scoring_start_ms: int
    """Until then features are collected; the first model is trained on what is known then."""
    end_ms: int

    @classmethod
    def of_months(cls, zone: ZoneInfo, first: dt.date, count: int, scoring_start: dt.date) -> "Calendar":
        """Return the calendar of ``count`` whole months, of which ``first`` is the first day."""
        months = range(first.year * 12 + first.month - 1, first.year * 12 + first.month + count)
        starts = [_midnight_ms(dt.date(month // 12, month % 12 + 1, 1), zone) for month in months]
        return cls(zone, tuple(starts[:-1]), _midnight_ms(scoring_start, zone), starts[-1])

    @property
    def start_ms(self) -> int:
        """Start of the first month."""
        return self.starts_ms[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The months, as in ``2013-02``."""
        return tuple(self.local_text(start_ms)[:7] for start_ms in self.starts_ms)

    def month_of(self, event_times_ms: Integers) -> Integers:
        """Return the index of each time's month, 0 for the first; times outside count for its ends.

        >>> FLIGHTS.month_of(np.array([SCORING_START_MS - 1, SCORING_START_MS]))
        array([0, 1])
        """
        starts = np.array(self.starts_ms, dtype=np.int64)
        return np.maximum(np.searchsorted(starts, event_times_ms, side="right") - 1, 0)

    def month_start_ms(self, name: str) -> int:
        """Return when a month begins."""
        return self.starts_ms[self.names.index(name)]

    def month_end_ms(self, name: str) -> int:
        """Return when the next month begins."""
        return (*self.starts_ms, self.end_ms)[self.names.index(name) + 1]

    def midnight_ms(self, day: dt.date) -> int:
        """Return the start of a local day as milliseconds since the epoch."""
        return _midnight_ms(day, self.zone)

    def day_of(self, event_time_ms: int) -> dt.date:
        """Return the local day of an event time."""
        return dt.datetime.fromtimestamp(event_time_ms / 1000, self.zone).date()

    def local_text(self, event_time_ms: int) -> str:
        """Return an event time in local time, to the minute.

        >>> FLIGHTS.local_text(SCORING_START_MS)
        '2013-02-01 00:00'
        """
        return dt.datetime.fromtimestamp(event_time_ms / 1000, self.zone).strftime("%Y-%m-%d %H:%M")


def _midnight_ms(day: dt.date, zone: ZoneInfo) -> int:
    return round(dt.datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


FLIGHTS = Calendar.of_months(ZONE, dt.date(YEAR, 1, 1), 12, dt.date(YEAR, 2, 1))
NAMES = FLIGHTS.names
YEAR_START_MS, YEAR_END_MS = FLIGHTS.start_ms, FLIGHTS.end_ms
SCORING_START_MS = FLIGHTS.scoring_start_ms
month_of, start_ms, local_midnight_ms = FLIGHTS.month_of, FLIGHTS.month_start_ms, FLIGHTS.midnight_ms


def rfc3339(event_time_ms: int) -> str:
    """Return an event time in UTC.

    >>> rfc3339(0)
    '1970-01-01T00:00:00Z'
    """
    return dt.datetime.fromtimestamp(event_time_ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def area_under_curve(labels: Floats, scores: Floats) -> float | None:
    """Return the area under the ROC curve, with ties counted half, or None if one class is missing.

    It is the Mann-Whitney U statistic over the number of pairs.

    >>> area_under_curve(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.2, 0.9]))
    0.75
    """
    positives = int(np.count_nonzero(labels > 0.5))
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(ranks[places][labels > 0.5].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
