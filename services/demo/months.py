"""The months of the demo's year in New York's local time, and the losses by month."""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

ZONE = ZoneInfo("America/New_York")
YEAR = 2013

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def local_midnight_ms(day: dt.date) -> int:
    """Return the start of a day in New York as milliseconds since the epoch.

    >>> local_midnight_ms(dt.date(2013, 2, 1))
    1359694800000
    """
    return round(dt.datetime(day.year, day.month, day.day, tzinfo=ZONE).timestamp() * 1000)


NAMES: tuple[str, ...] = tuple(f"{YEAR}-{month:02d}" for month in range(1, 13))
YEAR_START_MS = local_midnight_ms(dt.date(YEAR, 1, 1))
SCORING_START_MS = local_midnight_ms(dt.date(YEAR, 2, 1))
"""Start of scoring. Until then features are collected; the first model is trained on what is known then."""
YEAR_END_MS = local_midnight_ms(dt.date(YEAR + 1, 1, 1))

_STARTS: Integers = np.array(
    [local_midnight_ms(dt.date(YEAR, month, 1)) for month in range(1, 13)], dtype=np.int64
)


def month_of(event_times_ms: Integers) -> Integers:
    """Return the index of each time's month, 0 for January; times outside the year count for its ends.

    >>> month_of(np.array([SCORING_START_MS - 1, SCORING_START_MS]))
    array([0, 1])
    """
    return np.maximum(np.searchsorted(_STARTS, event_times_ms, side="right") - 1, 0)


def start_ms(name: str) -> int:
    """Return when a month of the year begins.

    >>> start_ms("2013-02") == SCORING_START_MS
    True
    """
    return int(_STARTS[NAMES.index(name)])


def end_ms(name: str) -> int:
    """Return when the next month begins."""
    following = NAMES.index(name) + 1
    return int(_STARTS[following]) if following < len(NAMES) else YEAR_END_MS


def local_text(event_time_ms: int) -> str:
    """Return an event time in New York's local time, to the minute.

    >>> local_text(SCORING_START_MS)
    '2013-02-01 00:00'
    """
    return dt.datetime.fromtimestamp(event_time_ms / 1000, ZONE).strftime("%Y-%m-%d %H:%M")


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
