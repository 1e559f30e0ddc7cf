"""Which window is found, and which record of it is kept."""

import msgspec
import pytest

from services.monitoring.reports import history as window_history
from services.monitoring.reports.history import NoWindowError, WindowHistory
from streams.records import DriftAlarm, PerformanceReport
from tests.unit.drift.scenario import HOUR_MS, START_MS
from tests.unit.monitoring.reports.windows import at, history


def test_window_is_found_by_any_time_within_it_and_the_latest_without():
    first = at(5).report
    assert first.window_start_ms == START_MS + 5 * HOUR_MS
    assert history().window(first.window_end_ms - 1).report == first
    assert history().window(first.window_end_ms).report.window_start_ms == first.window_end_ms
    assert history().window().report == history().windows()[-1]
    for missing_ms in (START_MS - 1, START_MS + 1000 * HOUR_MS):
        with pytest.raises(NoWindowError, match="the first window begins at"):
            history().window(missing_ms)
    with pytest.raises(NoWindowError):
        WindowHistory().window()


def test_a_revised_report_replaces_the_one_before():
    kept = WindowHistory()
    report = at(5).report
    kept.add(report)
    kept.add(msgspec.structs.replace(report, labels=report.labels + 7, revision=1))
    kept.add(report)
    assert [each.labels for each in kept.windows()] == [report.labels + 7]


def performance(version: int, revision: int) -> PerformanceReport:
    return PerformanceReport(
        report_id="p",
        model="m",
        version=version,
        window_start_ms=START_MS,
        window_end_ms=START_MS + HOUR_MS,
        as_of_ms=0,
        revision=revision,
        state="mature",
        predictions=1,
        labels=1,
        maturity=None,
        segments=[],
    )


def test_the_performance_of_the_latest_version_and_revision_counts():
    kept = WindowHistory()
    kept.add(
        msgspec.structs.replace(at(5).report, window_start_ms=START_MS, window_end_ms=START_MS + HOUR_MS)
    )
    for version, revision in ((1, 0), (2, 1), (1, 5), (2, 0)):
        kept.add(performance(version, revision))
    assert kept.window().performance == performance(2, 1)


def test_loss_alarms_come_first_then_the_latest():
    active = at(27).standing
    kinds = [alarm.kind for alarm in active]
    assert kinds == sorted(kinds, key=lambda kind: kind != "loss")
    others = [alarm.detected_at_ms for alarm in active if alarm.kind != "loss"]
    assert others == sorted(others, reverse=True)


def test_alarms_raised_in_a_window_are_those_detected_in_it():
    window = next(at(hour) for hour in range(20, 30) if at(hour).raised)
    for alarm in window.raised:
        assert window.report.window_start_ms < alarm.detected_at_ms <= window.report.window_end_ms


def test_the_oldest_windows_and_alarms_are_removed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(window_history, "WINDOWS_MAX", 2)
    monkeypatch.setattr(window_history, "ALARMS_MAX", 1)
    kept = WindowHistory()
    alarms: list[DriftAlarm] = []
    for hour in (3, 1, 2):
        report = at(hour).report
        alarm = msgspec.structs.replace(
            at(27).standing[0], alarm_id=str(hour), detected_at_ms=report.window_end_ms
        )
        alarms.append(alarm)
        kept.add(alarm)
        kept.add(msgspec.structs.replace(report, alarms_standing=["1", "2", "3"]))
    assert [each.report_id for each in kept.windows()] == [at(hour).report.report_id for hour in (2, 3)]
    assert kept.window().standing == (alarms[0],)
