"""The rule of the cooldown, and of versions on trial."""

import itertools
from collections.abc import Sequence
from typing import Any, get_args

import pytest

from services.runtime import retraining_cooldown
from services.runtime.declaration import DAY_MS, HOUR_MS, Rollout
from services.runtime.retraining_cooldown import VersionTrials
from streams.records import (
    RetrainingFinished,
    RetrainingRecord,
    RolloutEnded,
    RolloutRecord,
    RolloutRequested,
    RolloutStarted,
    RolloutStepped,
    Trigger,
)

STEPS = Rollout.model_validate(
    {
        "steps": [{"share": "shadow", "maximum_hours": 40}, {"share": "10%", "maximum_hours": 60}],
        "guardrails": {"loss": {"margin": 0.1}},
    }
)
PASSED = RetrainingFinished(
    request_id="r1", model="m", trigger="drift", requested_at_ms=10 * HOUR_MS, result="passed", version=2
)
STARTED = RolloutStarted(
    rollout_id="r1", model="m", version=2, champion=1, at_ms=9000 * HOUR_MS, reason="", actor="retraining"
)
"""It has wall time, which is years after that of a replay."""


def stepped(hours: int, step: int = 0) -> RolloutStepped:
    return RolloutStepped(
        rollout_id="r1", model="m", version=2, champion=1, step=step, share=0, at_ms=hours * HOUR_MS,
        reason="", arms_before="", arms_after="",
    )  # fmt: skip


def ended(hours: int) -> RolloutEnded:
    return RolloutEnded(
        rollout_id="r1", model="m", version=2, champion=1, outcome="rolled_back", at_ms=hours * HOUR_MS,
        reason="", arms_before="", arms_after="",
    )  # fmt: skip


def held_hours(records: Sequence[RetrainingRecord | RolloutRecord], rollout: Rollout = STEPS) -> list[int]:
    """Return the hours at which nothing may be requested."""
    trials = VersionTrials()
    for record in records:
        trials.note(record)
    return [hour for hour in range(500) if trials.refusal(hour * HOUR_MS, rollout)]


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


def test_a_version_is_on_trial_from_its_request_until_its_rollout_has_ended() -> None:
    records: list[RetrainingRecord | RolloutRecord]
    records = [PASSED, STARTED, stepped(12), stepped(30, 1), ended(50)]
    assert held_hours(records) == list(range(10, 50))
    for order in itertools.permutations(records):
        assert held_hours([*order, *order]) == list(range(10, 50)), (
            "two topics are read in any order, and again"
        )


def test_a_rollout_that_does_not_end_holds_nothing_for_ever() -> None:
    assert held_hours([PASSED]) == list(range(10, 110)), "no rollout process, or no approval"
    assert held_hours([PASSED, STARTED, stepped(12)]) == list(range(10, 112)), "no traffic"
    assert held_hours([PASSED, STARTED, stepped(12), stepped(90, 1)]) == list(range(10, 190))


def test_a_rollout_by_hand_is_a_trial_from_its_start_or_first_step() -> None:
    request = RolloutRequested(
        request_id="r1", model="m", version=2, requested_at_ms=0, reason="by hand", actor="ada"
    )
    assert held_hours([request]) == []
    assert held_hours([request, STARTED, stepped(20), ended(25)]) == list(range(20, 25))
    soon = RolloutStarted(
        rollout_id="r1", model="m", version=2, champion=1, at_ms=20 * HOUR_MS, reason="", actor="ada"
    )
    assert held_hours([request, soon]) == list(range(20, 120))


def test_a_version_that_was_never_tried_is_on_trial_no_longer() -> None:
    assert held_hours([PASSED, STARTED, ended(9000)]) == [], "rejected by a person, or superseded"


def test_a_model_without_steps_has_no_trials() -> None:
    assert held_hours([PASSED, STARTED, stepped(20)], Rollout()) == []


def test_the_refusal_says_until_when() -> None:
    trials = VersionTrials()
    trials.note(PASSED)
    assert trials.refusal(PASSED.requested_at_ms, STEPS) == (
        "version 2 is on trial: possible when its rollout has ended, or 100 hours after its last step; "
        "driftline retrain need not wait"
    )
