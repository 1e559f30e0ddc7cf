import io
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from services.demo import months, summary
from services.demo.account import RequestAccount
from services.demo.minutes import MinutesAccount
from services.demo.summary import Durations, MonthLine, MonthlySummary
from services.demo.trial.verdicts import CandidateVerdict
from services.runtime.declaration import DAY_MS, Learning
from streams import records

KEYS = {
    "seconds",
    "requests_sent",
    "predicted",
    "collected",
    "repeats",
    "dead_letters",
    "labels_joined",
    "labels_orphaned",
    "predictions_unlabelled",
    "retrainings",
    "alarms",
    "months",
    "mean_log_loss_live",
    "mean_log_loss_frozen",
    "cpu_seconds",
    "durations",
}


@pytest.fixture
def account() -> RequestAccount:
    filled = RequestAccount("late", "asked", "frozen")
    filled.add_drift(
        records.DriftReport(
            report_id="r",
            model="late",
            version=1,
            window_start_ms=0,
            window_end_ms=1,
            predictions=2,
            labels=1,
            labels_joined_total=11,
            labels_orphaned_total=2,
            predictions_unlabelled_total=3,
        )
    )
    filled.add_drift(
        records.DriftAlarm(
            alarm_id="a",
            model="late",
            version=1,
            kind="score",
            subject="score",
            value=0.4,
            threshold=0.25,
            detected_at_ms=months.SCORING_START_MS,
            since_ms=0,
            message="moved",
        )
    )
    filled.predicted = 5
    return filled


def summarise(
    account: RequestAccount, *, complete: bool = True, faults: Sequence[str] = ()
) -> summary.DemoSummary:
    result = records.RetrainingFinished(
        request_id="r",
        model="late",
        trigger="drift",
        requested_at_ms=months.SCORING_START_MS,
        result="promoted",
        version=2,
        rows=100,
        duration_seconds=3.21,
    )
    return summary.summarise(
        account,
        minutes_account(),
        [result],
        complete=complete,
        faults=faults,
        seconds=100.04,
        events_sent=20,
        requests_sent=5,
        position_ms=months.SCORING_START_MS,
        durations=Durations(startup_seconds=20, streaming_seconds=80, holding_seconds=10, waiting_seconds=30),
        cpu_seconds={"drift": 10.0, "scoring": 90.04},
    )


def minutes_account() -> MinutesAccount:
    """One answer that was ten minutes off."""
    start_ms = months.SCORING_START_MS
    known_labels = {"0": (start_ms + DAY_MS, 10.0), "1": (start_ms + 3 * DAY_MS, 12.0)}
    minutes = MinutesAccount("minutes", Learning(effective_after_hours=0), lambda: known_labels)
    answer = records.Prediction(
        prediction_id="1", model="minutes", version=1, arm="champion", arm_weight=1,
        event_time_ms=start_ms + 3 * DAY_MS, scored_time_ms=0, source_partition=0, source_offset=0,
        features=[], features_lag_ms=0, score=20.0, prediction=20.0,
    )  # fmt: skip
    minutes.add_predictions([records.encode(answer)])
    return minutes


def test_learning_model_is_compared_with_the_running_mean(account: RequestAccount) -> None:
    page = io.StringIO()
    found = summarise(account)
    summary.show(found, Console(file=page, width=300))
    (line,) = found.minutes.months
    assert (line.month, line.labels, line.mae_live, line.mae_running_mean) == ("2013-02", 1, 8.0, 2.0)
    assert "Learning online: mean absolute error in minutes" in page.getvalue()
    assert "repeats 0; version 1" in page.getvalue()


def test_json_has_every_documented_key(account: RequestAccount, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    summary.write(summarise(account), path)
    content = json.loads(path.read_text())
    assert content.keys() >= KEYS
    assert content["retrainings"][0].keys() >= {"time", "trigger", "version", "promoted"}
    assert content["retrainings"][0]["time"] == "2013-02-01T05:00:00Z"
    assert content["alarms"][0]["kind"] == "score"
    assert (content["labels_joined"], content["labels_orphaned"], content["predictions_unlabelled"]) == (
        11,
        2,
        3,
    )
    assert content["mean_log_loss_live"] is None
    assert list(content["cpu_seconds"]) == ["scoring", "drift"]
    assert list(tmp_path.iterdir()) == [path], "nothing half written is left"


def test_text_has_the_account_and_the_wall_time(account: RequestAccount) -> None:
    page = io.StringIO()
    console = Console(file=page, width=300)
    summary.show(summarise(account), console)
    text = page.getvalue()
    assert "sent 5 = predicted 5 + dead letters 0" in text
    assert "retrainings 10 s" in text
    assert "1.0 processors busy on average (scoring 90 s, drift 10 s)" in text
    assert "Finished after 100.0 s" in text


def test_fault_and_interruption_are_shown(account: RequestAccount) -> None:
    page = io.StringIO()
    console = Console(file=page, width=300)
    summary.show(summarise(account, complete=False, faults=["2 requests were lost"]), console)
    text = page.getvalue()
    assert "Fault: 2 requests were lost" in text
    assert "Stopped at 2013-02-01T05:00:00Z after 100.0 s" in text
    assert "sent 5 = predicted" not in text


def beside_monthly(account: RequestAccount) -> summary.DemoSummary:
    line = MonthLine(
        month="2013-02",
        requests=5,
        labels=4,
        log_loss_live=0.46,
        log_loss_frozen=0.48,
        auc_live=0.7,
        log_loss_monthly=0.47,
    )
    monthly = MonthlySummary(mean_log_loss=0.47, retrainings=11, retrainings_live=9)
    return msgspec.structs.replace(
        summarise(account), months=[line], monthly=monthly, mean_log_loss_live=0.46
    )


def test_monthly_retraining_is_shown_beside_the_loop(account: RequestAccount) -> None:
    page = io.StringIO()
    summary.show(beside_monthly(account), Console(file=page, width=300))
    assert "0.4600 with 9 trainings of the loop, 0.4700 with 11 monthly ones" in page.getvalue()
    rows = [line.split() for line in page.getvalue().splitlines()]
    assert ["2013-02", "5", "0.460", "0.480", "-0.020", "0.700", "0.470"] in rows


def test_without_monthly_retraining_nothing_is_shown_of_it(account: RequestAccount) -> None:
    page = io.StringIO()
    summary.show(summarise(account), Console(file=page, width=300))
    assert "monthly" not in page.getvalue()


def test_candidates_of_the_trial_are_shown(account: RequestAccount) -> None:
    page = io.StringIO()
    stopped = CandidateVerdict(candidate="slow", model="late", outcome="rejected", stopped_by=["latency"])
    found = msgspec.structs.replace(summarise(account), candidates=[stopped])
    summary.show(found, Console(file=page, width=300))
    assert "Bad candidates" in page.getvalue()
