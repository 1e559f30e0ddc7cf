import msgspec
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from services.demo.periods import PERIOD_MS, PeriodsAccount, average_precision
from services.runtime.declaration import DAY_MS
from streams import records
from tests.unit.retraining import training_data

START_MS = 100 * PERIOD_MS
MODEL = training_data.DECLARATION.name


def answer(number: int, at_ms: int, score: float | None, frozen: float | None = None) -> bytes:
    shadows = {} if frozen is None else {"frozen": frozen}
    return records.encode(
        records.Prediction(
            prediction_id=str(number), model=MODEL, version=1, arm="champion", arm_weight=1,
            event_time_ms=at_ms, scored_time_ms=0, source_partition=0, source_offset=number,
            features=[], features_lag_ms=0, score=score, prediction=score, shadow_scores=shadows,
        )
    )  # fmt: skip


def report(
    start_ms: int, labels: int, loss: float | None, *, state: str = "mature", model: str = MODEL
) -> records.PerformanceReport:
    figures = [records.Figure(measure="log_loss", realised=loss)]
    whole = records.SegmentPerformance(segment="", predictions=labels, labels=labels, figures=figures)
    made = records.PerformanceReport(
        report_id=f"r{start_ms}", model=model, version=1, window_start_ms=start_ms,
        window_end_ms=start_ms + DAY_MS, as_of_ms=0, revision=0, state="mature", predictions=labels,
        labels=labels, maturity=1.0, segments=[whole],
    )  # fmt: skip
    return msgspec.structs.replace(made, state=state)


@pytest.fixture
def account() -> PeriodsAccount:
    return PeriodsAccount(
        training_data.DECLARATION, {"1", "4"}, start_ms=START_MS, change_ms=START_MS + PERIOD_MS
    )


def test_periods_have_the_labels_of_the_world_before_and_after_the_change(account: PeriodsAccount) -> None:
    later = START_MS + PERIOD_MS
    account.add_predictions([answer(0, START_MS, 0.1), answer(1, later - 1, 0.9)])
    account.add_predictions(
        [answer(3, later, 0.1, 0.6), answer(4, later + 1, 0.8, 0.2), answer(5, later, None)]
    )
    first, second = account.figures().periods
    assert (first.before_change, second.before_change) == (True, False)
    assert (first.requests, first.positives, second.requests, second.positives) == (2, 1, 2, 1)
    assert (first.average_precision_live, first.average_precision_frozen) == (1.0, 1.0)
    assert (second.average_precision_live, second.average_precision_frozen) == (1.0, 0.5)
    assert first.log_loss_true == pytest.approx(-np.log(0.9))
    assert first.log_loss_shown is None


def test_repeats_and_requests_over_http_count_once_or_not(account: PeriodsAccount) -> None:
    asked = msgspec.json.decode(answer(9, START_MS, 0.5)) | {
        "source_partition": records.ASKED_OVER_HTTP,
        "source_offset": records.ASKED_OVER_HTTP,
    }
    account.add_predictions([answer(1, START_MS, 0.9), answer(1, START_MS, 0.9), msgspec.json.encode(asked)])
    (line,) = account.figures().periods
    assert (line.requests, line.positives, line.average_precision_live) == (1, 1, None)


def test_the_shown_loss_is_that_of_the_first_mature_report_of_each_window(account: PeriodsAccount) -> None:
    account.add_predictions([answer(1, START_MS, 0.9)])
    account.add_drift(report(START_MS, 5, 9.0, state="provisional"))
    account.add_drift(report(START_MS, 10, 0.2))
    account.add_drift(report(START_MS, 10, 7.0, state="complete"))
    account.add_drift(report(START_MS + DAY_MS, 30, 0.4))
    account.add_drift(report(START_MS + PERIOD_MS, 30, 5.0))
    account.add_drift(report(START_MS + 2 * DAY_MS, 30, 5.0, model="other"))
    (line,) = account.figures().periods
    assert line.log_loss_shown == pytest.approx((10 * 0.2 + 30 * 0.4) / 40)


def test_average_precision_is_that_of_scikit_learn_also_with_ties() -> None:
    random = np.random.default_rng(3)
    labels = (random.random(400) < 0.1).astype(float)
    scores = np.round(random.random(400) + 0.3 * labels, 1)
    assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores))
    assert average_precision(np.zeros(3), scores[:3]) is None
