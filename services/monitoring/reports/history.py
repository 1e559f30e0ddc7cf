"""The windows and alarms of one model, from the records of the drift topic. Pure.

Records come at least once, and a report may come again, revised: what is kept stands under the records'
own ids, the latest replacing the one before.
"""

import bisect
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

from streams import codec
from streams.records import DriftAlarm, DriftRecord, DriftReport, PerformanceReport

WINDOWS_MAX = 2000
"""As many as the dashboard keeps: five years of days. The oldest fall out."""
ALARMS_MAX = 5000

_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")


class NoWindowError(LookupError):
    """There is no report of such a window. The message says which there are."""


@dataclasses.dataclass(frozen=True)
class WindowReport:
    """All that a page needs: one window, those before it, and the alarms that concern it."""

    report: DriftReport
    earlier: tuple[DriftReport, ...]
    """In event time, the last one just before the window."""
    standing: tuple[DriftAlarm, ...]
    """At the window's end: harm first, then the latest."""
    raised: tuple[DriftAlarm, ...]
    """Within the window, whether they stand or not."""
    performance: PerformanceReport | None = None
    """Of the predictions of the window, as far as their labels have come by now."""


class WindowHistory:
    """What is known of one model."""

    def __init__(self) -> None:
        """Know nothing."""
        self._reports: dict[str, DriftReport] = {}
        self._performance: dict[int, PerformanceReport] = {}
        """By the window's start, of the latest version that answered in it."""
        self._alarms: dict[str, DriftAlarm] = {}

    def take(self, record: DriftRecord) -> None:
        """Take a record in."""
        match record:
            case DriftReport():
                former = self._reports.get(record.report_id)
                if former is None or former.revision <= record.revision:
                    self._reports[record.report_id] = record
                    _bound(self._reports, WINDOWS_MAX, lambda each: each.window_end_ms)
            case PerformanceReport():
                known = self._performance.get(record.window_start_ms)
                if known is None or (known.version, known.revision) <= (record.version, record.revision):
                    self._performance[record.window_start_ms] = record
                    _bound(self._performance, WINDOWS_MAX, lambda each: each.window_end_ms)
            case DriftAlarm():
                self._alarms[record.alarm_id] = record
                _bound(self._alarms, ALARMS_MAX, lambda each: each.detected_at_ms)

    def windows(self) -> Sequence[DriftReport]:
        """Return all reports in event time."""
        return sorted(self._reports.values(), key=lambda report: report.window_start_ms)

    def window(self, at_ms: int | None = None) -> WindowReport:
        """Return the window that holds an event time, or the latest one; `NoWindowError` if there is none."""
        reports = self.windows()
        if not reports:
            raise NoWindowError("the drift topic has no report of it")
        place = len(reports) - 1
        if at_ms is not None:
            place = bisect.bisect_right([report.window_start_ms for report in reports], at_ms) - 1
            if place < 0 or reports[place].window_end_ms <= at_ms:
                first, last = (_day(reports[each].window_start_ms) for each in (0, -1))
                raise NoWindowError(
                    f"no window holds that time; the first begins at {first}, the last at {last}"
                )
        report = reports[place]
        return WindowReport(
            report=report,
            earlier=tuple(reports[:place]),
            standing=self._standing(report),
            raised=tuple(
                alarm
                for alarm in self._in_time()
                if report.window_start_ms < alarm.detected_at_ms <= report.window_end_ms
            ),
            performance=self._performance.get(report.window_start_ms),
        )

    def _standing(self, report: DriftReport) -> tuple[DriftAlarm, ...]:
        named = [self._alarms[each] for each in report.alarms_standing or () if each in self._alarms]
        return tuple(sorted(named, key=lambda alarm: (alarm.kind != "loss", -alarm.detected_at_ms)))

    def _in_time(self) -> list[DriftAlarm]:
        return sorted(self._alarms.values(), key=lambda alarm: alarm.detected_at_ms)


def _bound(kept: dict[_Key, _Kept], limit: int, time_ms: Callable[[_Kept], int]) -> None:
    """Let the oldest one fall out once there are too many."""
    if len(kept) > limit:
        del kept[min(kept, key=lambda key: time_ms(kept[key]))]


def _day(time_ms: int) -> str:
    return (codec.EPOCH + time_ms * codec.MILLISECOND).strftime("%Y-%m-%dT%H:%M")
