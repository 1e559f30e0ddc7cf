import datetime as dt
import math

import pytest

from services.demo import months
from services.demo.account import RequestAccount, mean_log_losses
from streams import records

JANUARY = months.YEAR_START_MS
FEBRUARY = months.SCORING_START_MS
MARCH = months.local_midnight_ms(dt.date(2013, 3, 1))


@pytest.fixture
def account() -> RequestAccount:
    return RequestAccount("late", "asked", "frozen")


def prediction(offset: int, *, at_ms: int = FEBRUARY, score: float | None = 0.5, partition: int = 0) -> bytes:
    return records.encode(
        records.Prediction(
            prediction_id=f"{partition}-{offset}",
            model="late",
            version=0 if score is None else 1,
            arm="champion",
            arm_weight=10_000,
            event_time_ms=at_ms,
            scored_time_ms=0,
            source_partition=partition,
            source_offset=offset,
            features=[1.0, "UA", None],
            features_lag_ms=0,
            score=score,
            prediction=None,
        )
    )


def outcome(
    offset: int,
    *,
    label: float = 1.0,
    score: float | None = 0.5,
    frozen: float | None = None,
    version: int = 1,
    at_ms: int = FEBRUARY,
) -> bytes:
    return records.encode(
        records.Outcome(
            prediction_id=str(offset),
            model="late",
            version=version,
            arm="champion",
            event_time_ms=at_ms,
            label_time_ms=at_ms + 1,
            source_partition=0,
            source_offset=offset,
            label=label,
            score=score,
            loss=None,
            shadow_scores={} if frozen is None else {"frozen": frozen},
        )
    )


def letter(offset: int, topic: str = "asked") -> bytes:
    return records.encode(
        records.DeadLetter(
            service="scoring",
            reason="no id",
            topic=topic,
            partition=0,
            offset=offset,
            key=b"UA1",
            value=b"{}",
            failed_time_ms=0,
        )
    )


def report(window_end_ms: int, joined: int) -> records.DriftReport:
    return records.DriftReport(
        report_id=str(window_end_ms),
        model="late",
        version=1,
        window_start_ms=0,
        window_end_ms=window_end_ms,
        predictions=0,
        labels=0,
        labels_joined_total=joined,
    )


def alarm(name: str, model: str = "late") -> records.DriftAlarm:
    return records.DriftAlarm(
        alarm_id=name,
        model=model,
        version=1,
        kind="loss",
        subject="log_loss",
        value=0.6,
        threshold=0.5,
        detected_at_ms=FEBRUARY,
        since_ms=FEBRUARY,
        message="worse",
    )


def test_predictions_are_counted_by_score_and_time(account: RequestAccount) -> None:
    account.add_predictions(
        [prediction(0, at_ms=JANUARY, score=None), prediction(1), prediction(2, score=None)]
    )
    assert (account.collected, account.predicted, account.unscored) == (1, 1, 1)


def test_repeat_is_counted_and_changes_nothing_else(account: RequestAccount) -> None:
    account.add_predictions([prediction(0), prediction(1), prediction(0), prediction(1), prediction(2)])
    account.add_outcomes([outcome(0), outcome(0)])
    account.add_dead_letters([letter(7), letter(7)])
    assert (account.predicted, account.repeats, account.outcomes, account.dead_letters) == (3, 4, 1, 1)


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"null", b'{"id": 7}', b"[" * 2000])
def test_record_that_does_not_decode_is_not_counted(account: RequestAccount, garbage: bytes) -> None:
    """Anybody can write into a topic that the demo reads."""
    account.add_predictions([garbage, prediction(0), garbage, prediction(1)])
    account.add_outcomes([garbage, outcome(0)])
    account.add_dead_letters([garbage, letter(7)])
    assert (account.predicted, account.outcomes, account.dead_letters, account.repeats) == (2, 1, 1, 0)


def test_predictions_over_http_are_not_part_of_the_account(account: RequestAccount) -> None:
    """A REST caller during the demo causes no error in the account."""
    http = records.ASKED_OVER_HTTP
    account.add_predictions([prediction(0), *[prediction(http, partition=http)] * 2])
    assert (account.predicted, account.asked_over_http, account.repeats) == (1, 2, 0)
    assert account.faults(1, 0) == []


def test_account_has_no_error_if_each_request_has_a_prediction_or_a_dead_letter(
    account: RequestAccount,
) -> None:
    account.start_scoring({0: 2})
    account.add_dead_letters([letter(1), letter(4), letter(9, topic="arrived")])
    assert (account.dead_letters_before, account.dead_letters) == (1, 1)
    account.add_predictions([prediction(0, at_ms=JANUARY, score=None), prediction(2), prediction(3)])
    assert account.faults(requests_sent=3, collecting_sent=2) == []


def test_lost_request_is_an_error_with_the_numbers(account: RequestAccount) -> None:
    account.add_predictions([prediction(0)])
    (fault,) = account.faults(requests_sent=2, collecting_sent=0)
    assert "2 requests were sent, but 1 predicted + 0 dead letters = 1" in fault


def test_prediction_without_a_score_after_january_is_an_error(account: RequestAccount) -> None:
    account.add_predictions([prediction(0, score=None)])
    (fault,) = account.faults(requests_sent=1, collecting_sent=0)
    assert "1 predictions had no score" in fault


def test_month_has_the_mean_losses_of_its_requests(account: RequestAccount) -> None:
    account.add_predictions([prediction(0), prediction(1), prediction(2, at_ms=MARCH)])
    account.add_outcomes(
        [
            outcome(0, score=0.8),
            outcome(1, score=0.4, label=0.0),
            outcome(2, score=0.5, frozen=0.25, version=2, at_ms=MARCH),
        ]
    )
    february, march = account.months(with_auc=True)
    assert (february.month, february.requests, february.labels) == ("2013-02", 2, 2)
    assert february.log_loss_live == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert february.log_loss_frozen == february.log_loss_live, "the first model is itself the frozen one"
    assert february.auc_live == 1.0
    assert march.log_loss_frozen == pytest.approx(-math.log(0.25))
    assert march.auc_live is None


def test_a_request_without_a_label_may_have_one_by_its_absence() -> None:
    """Then the outcomes hold one class only, so the labels of all requests are those of the world."""
    account = RequestAccount("late", "asked", "frozen", positives={"0-1"})
    account.add_predictions([prediction(0, score=0.2), prediction(1, score=0.8), prediction(1, score=0.8)])
    account.add_outcomes([outcome(1, score=0.8)])
    (february,) = account.months(with_auc=True)
    assert (february.requests, february.labels, february.auc_live) == (2, 2, 1.0)
    assert february.log_loss_live == february.log_loss_frozen == pytest.approx(-math.log(0.8))
    assert account.outcomes == 1


def test_total_is_the_mean_of_the_monthly_means(account: RequestAccount) -> None:
    account.add_predictions([prediction(0), prediction(1, at_ms=MARCH), prediction(2, at_ms=MARCH)])
    account.add_outcomes(
        [outcome(0, score=0.8), outcome(1, score=0.5, at_ms=MARCH), outcome(2, score=0.5, at_ms=MARCH)]
    )
    live, frozen = mean_log_losses(account.months())
    assert live == frozen == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2)


def test_outcomes_of_collected_requests_have_no_loss(account: RequestAccount) -> None:
    account.add_outcomes([outcome(0, score=None, version=0, at_ms=JANUARY)])
    assert account.outcomes == 1
    assert account.months() == []


def test_totals_come_from_the_latest_report_and_alarms_count_once(account: RequestAccount) -> None:
    for record in (report(20, joined=5), report(10, joined=1), alarm("a"), alarm("a"), alarm("b", "other")):
        account.add_drift(record)
    assert account.report is not None
    assert account.report.labels_joined_total == 5
    assert [found.alarm_id for found in account.alarms_in_order()] == ["a"]


def test_version_follows_the_event_time(account: RequestAccount) -> None:
    arms = [
        records.Arm(name="champion", version=1, weight=10_000),
        records.Arm(name="champion", version=2, weight=10_000, effective_from_ms=100),
        records.Arm(name="frozen", version=1, weight=0, shadow=True),
    ]
    assert account.version_at(50) == 0
    account.add_change(records.ModelChanged(model="late", arms=arms, changed_at_ms=90, reason="drift"))
    assert [account.version_at(at_ms) for at_ms in (50, 99, 100)] == [1, 1, 2]
