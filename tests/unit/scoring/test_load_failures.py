"""A version that did not load is tried again after pauses that grow up to a limit."""

import pytest

from services.scoring.load_failures import RETRY_SECONDS_MAX, LoadFailures
from tests.unit.scoring.fakes import ManualClock


def test_the_pause_doubles_up_to_its_maximum():
    failures = LoadFailures("m", ManualClock())
    pauses = [failures.add(1, OSError("away")).retry_seconds for _ in range(7)]
    assert pauses == [1, 2, 4, 8, 16, RETRY_SECONDS_MAX, RETRY_SECONDS_MAX]


def test_the_error_names_model_version_and_reason_and_the_time_that_is_left():
    clock = ManualClock()
    failures = LoadFailures("m", clock)
    failures.add(3, OSError("away"))
    clock.advance(0.4)
    error = failures.error(3)
    assert str(error) == "version 3 of m cannot predict: away"
    assert error is not None
    assert error.retry_seconds == pytest.approx(0.6)
    clock.advance(5)
    assert failures.retry_seconds([3], default=9) == 0


def test_versions_without_a_failure_are_tried_after_the_default():
    failures = LoadFailures("m", ManualClock())
    failures.add(1, OSError())
    assert failures.retry_seconds([2], default=9) == 9
    failures.remove(1)
    assert failures.error(1) is None
    failures.add(1, OSError())
    failures.clear()
    assert failures.retry_seconds([1], default=9) == 9
