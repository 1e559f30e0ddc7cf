"""The rule of the cooldown."""

from typing import Any, get_args

import pytest

from services.runtime import retraining_cooldown
from services.runtime.declaration import DAY_MS
from streams.records import RetrainingFinished, Trigger


def test_nothing_is_too_early_before_the_first_training() -> None:
    assert not retraining_cooldown.holds(0, [], 14)


def test_the_latest_training_counts_to_the_millisecond() -> None:
    counted = [3 * DAY_MS, 5 * DAY_MS, 4 * DAY_MS]
    assert retraining_cooldown.holds(19 * DAY_MS - 1, counted, 14)
    assert not retraining_cooldown.holds(19 * DAY_MS, counted, 14)


def test_a_cooldown_of_zero_days_never_holds_after_a_training() -> None:
    assert not retraining_cooldown.holds(5, [5], 0)


@pytest.mark.parametrize(("result", "version", "starts"), [("rejected", 3, True), ("failed", 0, False)])
def test_only_a_candidate_starts_a_cooldown(result: Any, version: int, *, starts: bool) -> None:
    finished = RetrainingFinished(
        request_id="r", model="m", trigger="drift", requested_at_ms=1, result=result, version=version
    )
    assert retraining_cooldown.starts(finished) is starts


def test_people_need_not_wait_and_machines_must() -> None:
    assert {"bootstrap", "manual", "http"} == retraining_cooldown.BY_PEOPLE
    assert set(get_args(Trigger)) - retraining_cooldown.BY_PEOPLE == {"drift", "schedule", "labels"}
