"""When a retraining is requested, and what the request says."""

from typing import Any

import pytest

from services.drift.alarms import AlarmContent, alarm_of
from services.drift.loss_alarms import ESTIMATE_DETECTOR, LossEvaluation
from services.drift.retraining_trigger import RetrainingTrigger
from services.runtime.declaration import ModelDeclaration, Rollout
from streams.records import RetrainingFinished, RetrainingRequested, RolloutEnded, RolloutStepped
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS

NOW_MS = 100 * HOUR_MS
COOLDOWN_HOURS = 6


def loss_alarm(detector="window", message="the loss is worse"):
    return alarm_of("m", 1, AlarmContent("loss", "log_loss", 0.7, 0.6, message), 5, 3, detector)


def asked(at_ms):
    return RetrainingRequested(
        request_id="r", model="m", trigger="manual", requested_at_ms=at_ms, reason="by hand"
    )


def evaluation(cause=None, **values):
    return LossEvaluation(cause=cause or loss_alarm(), **({"labels": 100, "labels_since": 80} | values))


def new_trigger(*requested_at_ms, **options):
    declaration = scenario.declaration(cooldown_hours=COOLDOWN_HOURS, **options)
    return RetrainingTrigger(declaration, requested_at_ms)


def request(trigger, losses, now_ms=NOW_MS, active=()):
    return trigger.request(now_ms, losses, active, [], {"t": [7]})


def test_a_loss_that_is_worse_requests_a_retraining_from_its_beginning():
    found = request(new_trigger(), evaluation())
    assert found is not None
    assert (found.request_id, found.trigger, found.basis) == (f"m-{NOW_MS}", "drift", "labels")
    assert (found.since_ms, found.train_from_ms, found.train_to_ms) == (3, 3, NOW_MS)
    assert (found.reason, found.offsets) == ("the loss is worse", {"t": [7]})


def test_nothing_is_requested_without_a_cause():
    assert request(new_trigger(), LossEvaluation(labels=100)) is None


def test_nothing_is_requested_before_there_are_enough_labels():
    assert request(new_trigger(minimum_labels=101), evaluation()) is None


def test_a_model_that_is_not_retrained_requests_nothing():
    document = scenario.document()
    del document["gates"]
    declaration = ModelDeclaration.model_validate(document)
    assert request(RetrainingTrigger(declaration, ()), evaluation()) is None


@pytest.mark.parametrize(
    ("hours_ago", "is_requested"),
    [(COOLDOWN_HOURS, True), (COOLDOWN_HOURS - 1, False), (0, True), (-1, True)],
)
def test_a_request_starts_a_cooldown_and_later_ones_do_not_count(hours_ago, is_requested):
    """A replay knows requests that were made later, its own among them."""
    trigger = new_trigger()
    trigger.note(asked(NOW_MS - hours_ago * HOUR_MS))
    assert (request(trigger, evaluation()) is not None) is is_requested


def test_its_own_request_starts_the_cooldown():
    trigger = new_trigger(1)
    assert request(trigger, evaluation()) is not None
    assert request(trigger, evaluation(), NOW_MS + HOUR_MS) is None
    assert trigger.times_ms == [NOW_MS], "those before the cooldown are forgotten"


def test_too_few_labels_since_the_cause_leave_the_training_window_open():
    found = request(new_trigger(minimum_labels=81), evaluation())
    assert found is not None
    assert found.train_from_ms is None


def test_the_cause_is_the_reason_and_active_alarms_are_the_evidence():
    cause, active = loss_alarm("harm", "the loss is too high now"), [loss_alarm()]
    found = request(new_trigger(), evaluation(cause), active=active)
    assert found is not None
    assert found.evidence == active
    assert found.reason == "the loss is too high now"


def test_a_request_for_an_estimated_loss_says_so():
    found = request(new_trigger(), evaluation(loss_alarm(ESTIMATE_DETECTOR)))
    assert found is not None
    assert found.basis == "estimate"


@pytest.mark.parametrize(
    ("result", "version", "is_requested"),
    [("failed", 0, True), ("rejected", 2, False), ("promoted", 2, False)],
)
def test_a_request_that_made_no_version_starts_no_cooldown(result, version, is_requested):
    trigger, at_ms = new_trigger(), NOW_MS - HOUR_MS
    trigger.note(asked(at_ms))
    trigger.note(
        RetrainingFinished(
            request_id="r", model="m", trigger="manual", requested_at_ms=at_ms, result=result, version=version
        )
    )
    assert (request(trigger, evaluation()) is not None) is is_requested


def test_harm_while_a_version_is_on_trial_is_requested_when_the_rollout_has_ended():
    rollout = {"steps": [{"share": "10%", "maximum_hours": 40}], "guardrails": {"loss": {"margin": 0.1}}}
    declared = scenario.declaration(cooldown_hours=COOLDOWN_HOURS)
    declared = declared.model_copy(update={"rollout": Rollout.model_validate(rollout)})
    trigger = RetrainingTrigger(declared, ())
    common: Any = {"rollout_id": "r", "model": "m", "version": 2, "champion": 1, "reason": "",
                   "arms_before": "", "arms_after": ""}  # fmt: skip
    trigger.note(RolloutStepped(**common, step=0, share=1000, at_ms=NOW_MS - HOUR_MS))
    assert request(trigger, evaluation()) is None
    assert str(trigger.waits_for).startswith("version 2 is on trial")
    assert request(trigger, LossEvaluation(labels=100)) is None
    assert trigger.waits_for is None, "without harm nothing waits"
    trigger.note(RolloutEnded(**common, outcome="promoted", at_ms=NOW_MS + HOUR_MS))
    assert request(trigger, evaluation()) is None, "the window is still one of the trial"
    assert request(trigger, evaluation(), NOW_MS + HOUR_MS) is not None
    assert trigger.waits_for is None
