"""The log of retrainings, and the request for the first model."""

import pytest

from services.demo import retrainings
from services.demo.retrainings import RetrainingLog
from streams import records
from tests.unit.demo.test_gate import MODEL, finished, requested


def test_log_drops_repeats_and_other_models() -> None:
    log = RetrainingLog(MODEL)
    assert log.add(requested("a", 1))
    assert not log.add(requested("a", 1))
    assert log.add(finished("a", 1))
    assert not log.add(finished("a", 1, result="failed"))
    other = records.RetrainingRequested(
        request_id="b", model="other", trigger="drift", requested_at_ms=1, reason=""
    )
    assert not log.add(other)
    assert log.open == []
    assert log.drift_results() == 1


def test_results_are_in_the_order_of_event_time() -> None:
    log = RetrainingLog(MODEL)
    for name, at_ms in (("b", 20), ("a", 10)):
        log.add(finished(name, at_ms))
    assert [result.request_id for result in log.results()] == ["a", "b"]


def test_rejected_first_model_ends_the_demo_with_the_reasons() -> None:
    retrainings.check_first_model(finished("a", 1))
    with pytest.raises(retrainings.RetrainingFailedError, match="was rejected: too few labels"):
        retrainings.check_first_model(finished("a", 1, result="rejected", reasons=("too few labels",)))


def test_first_request_is_the_same_after_a_restart() -> None:
    first = retrainings.bootstrap_request(MODEL, 5, {"predictions": [1, 2]})
    assert first == retrainings.bootstrap_request(MODEL, 5, {"predictions": [1, 2]})
    assert first.trigger == "bootstrap"


def test_schedule_counts_from_the_latest_request() -> None:
    log = RetrainingLog(MODEL)
    assert log.last_requested_ms == 0
    for name, at_ms in (("b", 20), ("a", 10)):
        log.add(requested(name, at_ms))
    assert log.last_requested_ms == 20


def test_scheduled_request_is_the_same_after_a_restart_and_says_why() -> None:
    request = retrainings.scheduled_request(MODEL, 5, 60, {"predictions": [1]})
    assert request == retrainings.scheduled_request(MODEL, 5, 60, {"predictions": [1]})
    assert (request.trigger, request.requested_at_ms) == ("schedule", 5)
    assert request.reason == "60 days have passed since the last training"


def test_first_model_may_also_be_led_by_a_rollout() -> None:
    retrainings.check_first_model(finished("a", 1, result="passed"))
