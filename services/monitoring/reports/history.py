"""The windows and alarms of one model, from the records of the drift topic. Pure.

Records are delivered at least once, and a report may be revised: records are kept by their own ids, and a
later revision replaces an earlier one.
"""

import bisect
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

from streams import codec
from streams.records import DriftAlarm, DriftRecord, DriftReport, PerformanceReport

WINDOWS_MAX = 2000
"""Maximum windows, as in the dashboard: five years of days. The oldest are removed."""
ALARMS_MAX = 5000
"""Maximum alarms; the oldest are removed."""

_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")


class NoWindowError(LookupError):
    """There is no report of such a window. The message names the first and the last one."""


@dataclasses.dataclass(frozen=True)
class WindowReport:
    """The content of a report: one window, the windows before it, and its alarms."""

    report: DriftReport
    earlier: tuple[DriftReport, ...]
    """The windows before it, in event-time order."""
    standing: tuple[DriftAlarm, ...]
    """Alarms active at the end of the window: loss alarms first, then the latest."""
    raised: tuple[DriftAlarm, ...]
    """Alarms raised within the window, active or not."""
    performance: PerformanceReport | None = None
    """Performance of the window's predictions, from the labels that have arrived so far."""
    performances: tuple[PerformanceReport, ...] = ()
    """Performance of the earlier windows, in event-time order, and of the window itself if it is known."""


class WindowHistory:
    """All windows and alarms of one model."""

    def __init__(self) -> None:
        """Create an empty history."""
        self._reports: dict[str, DriftReport] = {}
        self._performance: dict[int, PerformanceReport] = {}
        """The reports of the latest version that served in a window, by the start of the window."""
        self._alarms: dict[str, DriftAlarm] = {}

    def add(self, record: DriftRecord) -> None:
        """Add a record of the drift topic."""
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
        """Return all reports in event-time order."""
        return sorted(self._reports.values(), key=lambda report: report.window_start_ms)

    def window(self, at_ms: int | None = None) -> WindowReport:
        """Return the window that holds an event time, or the latest one.

        Raises:
            NoWindowError: There is no such window.
        """
        reports = self.windows()
        if not reports:
            raise NoWindowError("the drift topic has no report of this model")
        index = len(reports) - 1
        if at_ms is not None:
            index = bisect.bisect_right([report.window_start_ms for report in reports], at_ms) - 1
            if index < 0 or reports[index].window_end_ms <= at_ms:
                first, last = (_day(reports[each].window_start_ms) for each in (0, -1))
                raise NoWindowError(
                    f"no window contains this time: the first window begins at {first}, the last one at "
                    f"{last}"
                )
        report = reports[index]
        return WindowReport(
            report=report,
            earlier=tuple(reports[:index]),
            standing=self._active(report),
            raised=tuple(
                alarm
                for alarm in self._by_time()
                if report.window_start_ms < alarm.detected_at_ms <= report.window_end_ms
            ),
            performance=self._performance.get(report.window_start_ms),
            performances=tuple(
                self._performance[start_ms]
                for start_ms in sorted(self._performance)
                if start_ms <= report.window_start_ms
            ),
        )

    def _active(self, report: DriftReport) -> tuple[DriftAlarm, ...]:
        active = [self._alarms[each] for each in report.alarms_standing or () if each in self._alarms]
        return tuple(sorted(active, key=lambda alarm: (alarm.kind != "loss", -alarm.detected_at_ms)))

    def _by_time(self) -> list[DriftAlarm]:
        return sorted(self._alarms.values(), key=lambda alarm: alarm.detected_at_ms)


def _bound(kept: dict[_Key, _Kept], limit: int, time_ms: Callable[[_Kept], int]) -> None:
    """Remove the oldest entry once there are more than the limit."""
    if len(kept) > limit:
        del kept[min(kept, key=lambda key: time_ms(kept[key]))]


def _day(time_ms: int) -> str:
    return (codec.EPOCH + time_ms * codec.MILLISECOND).strftime("%Y-%m-%dT%H:%M")
