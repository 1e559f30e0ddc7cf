"""The page on the year's alarms: made from records, days and hindsight."""

import dataclasses

import msgspec

from services.demo import chronicle, months
from services.demo.chronicle import Year
from services.demo.days import Days
from services.demo.hindsight import Service
from services.demo.summary import MonthlySummary
from services.runtime.declaration import DAY_MS
from streams import records
from tests.unit.demo import summaries

MARCH_MS = months.start_ms("2013-03")
REQUEST = "late-1"


def alarm(kind: str, value: float, **changes: object) -> records.DriftAlarm:
    made = records.DriftAlarm(
        alarm_id=f"{kind}-{value}",
        model="late",
        version=1,
        kind="loss" if kind == "loss" else "feature",
        subject="log_loss" if kind == "loss" else "rain",
        value=value,
        threshold=0.5,
        detected_at_ms=MARCH_MS + 9 * DAY_MS,
        since_ms=MARCH_MS + 6 * DAY_MS,
        message="rose | and stayed",
    )
    return msgspec.structs.replace(made, **changes)


def year(days: Days, *, evidence: list[records.DriftAlarm], gain: float = 0.01) -> Year:
    request = records.RetrainingRequested(
        request_id=REQUEST,
        model="late",
        trigger="drift",
        requested_at_ms=MARCH_MS + 10 * DAY_MS,
        reason="the loss rose",
        evidence=evidence,
    )
    result = records.RetrainingFinished(
        request_id=REQUEST,
        model="late",
        trigger="drift",
        requested_at_ms=request.requested_at_ms,
        result="promoted",
        version=2,
    )
    service = Service(2, 1, MARCH_MS + 12 * DAY_MS, MARCH_MS + 30 * DAY_MS, 1234, 0.4, 0.4 + gain)
    alarms = [alarm("feature", 0.9), *evidence]
    return Year(summaries.empty(), alarms, {REQUEST: request}, [result], [service], days)


def test_alarm_is_listed_with_what_had_happened(days: Days) -> None:
    page = chronicle.page(
        year(days, evidence=[alarm("loss", 0.6, since_from_ms=MARCH_MS, since_to_ms=MARCH_MS)])
    )
    assert "### March, 2" in page
    assert "| 10 Mar | feature `rain` | 7 Mar | rose \\| and stayed | 30% late" in page
    assert "| 10 Mar | loss `log_loss` | 1 Mar |" in page


def test_retraining_says_why_and_whether_it_helped(days: Days) -> None:
    page = chronicle.page(year(days, evidence=[alarm("loss", 0.6)]))
    assert "drift requested 1 retrainings, each of them with measured harm" in page
    helped = "yes: 0.400, previous version 0.410, on 1,234 flights to 31 Mar"
    assert f"| 11 Mar | the loss rose | version 2 | {helped} |" in page


def test_retraining_that_did_not_help_is_shown(days: Days) -> None:
    page = chronicle.page(year(days, evidence=[alarm("loss", 0.6)], gain=-0.01))
    assert "no: 0.400, previous version 0.390" in page
    assert "0 of the 1 new versions" in page


def test_retraining_without_harm_is_counted(days: Days) -> None:
    assert "1 of them without harm" in chronicle.page(year(days, evidence=[alarm("feature", 0.9)]))


def test_monthly_retraining_is_compared_if_it_was_computed(days: Days) -> None:
    made = year(days, evidence=[])
    assert "computed beside" not in chronicle.page(made)
    monthly = MonthlySummary(mean_log_loss=0.47, retrainings=11, retrainings_live=9)
    found = msgspec.structs.replace(made.summary, monthly=monthly, mean_log_loss_live=0.46)
    page = chronicle.page(dataclasses.replace(made, summary=found))
    assert "0.4600 with the 9 trainings of the loop, and 0.4700 with 11 monthly ones" in page
    assert "| mean |  | 0.460 | - | 0.470 |" in page


def test_scheduled_retraining_is_counted_apart(days: Days) -> None:
    made = year(days, evidence=[alarm("loss", 0.6)])
    scheduled = msgspec.structs.replace(made.results[0], trigger="schedule", request_id="schedule")
    page = chronicle.page(dataclasses.replace(made, results=[*made.results, scheduled]))
    assert "drift requested 1 retrainings, each of them with measured harm. 1 were requested" in page
    assert "2 were promoted" in page
