"""The reason and the pause after sessions that fail, with a clock moved by hand."""

import pytest
import structlog.testing

from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.session_failures import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN, SessionFailures
from streams import back_off
from streams.outages import OutageError


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> SessionFailures:
    """Failures whose pause is the number of failures in a row."""
    monkeypatch.setattr(back_off, "pause_seconds", lambda count, shortest, longest: count)
    return SessionFailures(clock)


@pytest.mark.parametrize("error", [OutageError("Kafka is away"), MissingTopicError("no topic t")])
def test_an_outage_is_a_warning_with_its_message(failures: SessionFailures, error: Exception) -> None:
    with structlog.testing.capture_logs() as logs:
        failures.pause_seconds(error)
    assert [(each["event"], each["log_level"]) for each in logs] == [("session.outage", "warning")]
    assert failures.reason == f"{type(error).__name__}: {error}"


def test_a_defect_is_an_error_whose_reason_names_it(failures: SessionFailures) -> None:
    with structlog.testing.capture_logs() as logs:
        failures.pause_seconds(ZeroDivisionError("by zero"))
    assert [each["event"] for each in logs] == ["session.failed"]
    assert "ZeroDivisionError: by zero" in (failures.reason or "")


def test_the_pause_grows_over_sessions_that_do_not_last(failures: SessionFailures, clock: Clock) -> None:
    pauses = []
    for _ in range(3):
        failures.started()
        clock.seconds += 1
        pauses.append(failures.pause_seconds(OutageError("away")))
    assert pauses == [1, 2, 3]


def test_a_session_that_lasts_resets_the_pause(failures: SessionFailures, clock: Clock) -> None:
    failures.pause_seconds(OutageError("away"))
    failures.started()
    clock.seconds += RETRY_SECONDS_MAX + 1
    assert failures.pause_seconds(OutageError("away")) == 1


def test_a_session_that_never_connects_does_not_last_however_long_it_tries(
    failures: SessionFailures, clock: Clock
) -> None:
    failures.started()
    failures.pause_seconds(OutageError("away"))
    clock.seconds += 100
    assert failures.pause_seconds(OutageError("away")) == 2


def test_nothing_is_wrong_while_a_session_runs(clock: Clock) -> None:
    failures = SessionFailures(clock)
    assert failures.reason == "starting"
    assert 0 < failures.pause_seconds(OutageError("away")) <= RETRY_SECONDS_MAX
    assert RETRY_SECONDS_MIN < RETRY_SECONDS_MAX
    failures.started()
    assert failures.reason is None
