"""Drift requests nothing that retraining rejects for the cooldown or a trial, and nothing less."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.drift.retraining_trigger import RetrainingTrigger
from services.retraining.history import RetrainingHistory
from services.runtime.declaration import HOUR_MS, Rollout
from streams.records import RetrainingFinished, RetrainingRequested, RolloutEnded, RolloutStepped, Trigger
from tests.unit.drift import scenario
from tests.unit.drift.test_retraining_trigger import evaluation

NOW_HOURS = 1000
EARLIER = st.lists(
    st.tuples(
        st.integers(0, NOW_HOURS - 1),
        st.sampled_from(["drift", "schedule", "labels", "manual", "http", "bootstrap"]),
        st.sampled_from([0, 1]),
    ),
    unique_by=lambda each: each[0],
)


def retraining(
    model: str, hours: int, trigger: Trigger, version: int
) -> tuple[RetrainingRequested, RetrainingFinished]:
    """Return a request and its result."""
    request_id, at_ms = f"r{hours}", hours * HOUR_MS
    return (
        RetrainingRequested(
            request_id=request_id, model=model, trigger=trigger, requested_at_ms=at_ms, reason=""
        ),
        RetrainingFinished(
            request_id=request_id, model=model, trigger=trigger, requested_at_ms=at_ms, version=version,
            result="rejected" if version else "failed",
        ),
    )  # fmt: skip


@given(earlier=EARLIER, cooldown_hours=st.integers(0, 400))
def test_drift_requests_exactly_what_retraining_does_not_reject(
    earlier: list[tuple[int, Trigger, int]], cooldown_hours: int
) -> None:
    declaration = scenario.declaration(cooldown_hours=cooldown_hours)
    trigger, history = RetrainingTrigger(declaration, ()), RetrainingHistory()
    for each in earlier:
        for record in retraining(declaration.name, *each):
            trigger.note(record)
            history.add(record)
    requested = trigger.request(NOW_HOURS * HOUR_MS, evaluation(), [], [], {})
    by_machine, _ = retraining(declaration.name, NOW_HOURS, "drift", 0)
    assert (requested is None) == (history.cooldown_refusal(by_machine, declaration) is not None)
    by_people, _ = retraining(declaration.name, NOW_HOURS, "http", 0)
    assert history.cooldown_refusal(by_people, declaration) is None


@given(
    requested_hours=st.integers(0, NOW_HOURS),
    step_hours=st.lists(st.integers(0, 200), max_size=3),
    is_over=st.booleans(),
    maximum_hours=st.integers(1, 300),
)
def test_drift_requests_exactly_what_retraining_does_not_reject_for_a_version_on_trial(
    requested_hours: int, step_hours: list[int], maximum_hours: int, *, is_over: bool
) -> None:
    rollout = Rollout.model_validate(
        {
            "steps": [{"share": "10%", "maximum_hours": maximum_hours}],
            "guardrails": {"loss": {"margin": 0.1}},
        }
    )
    declaration = scenario.declaration(cooldown_hours=0).model_copy(update={"rollout": rollout})
    trigger, history = RetrainingTrigger(declaration, ()), RetrainingHistory()
    _, rejected = retraining(declaration.name, requested_hours, "manual", 2)
    passed = msgspec.structs.replace(rejected, result="passed")
    trigger.note(passed)
    history.add(passed)
    common: dict[str, Any] = {
        "rollout_id": passed.request_id, "model": declaration.name, "version": 2, "champion": 1,
        "reason": "", "arms_before": "", "arms_after": "",
    }  # fmt: skip
    at_ms = passed.requested_at_ms
    found: list[RolloutStepped | RolloutEnded] = []
    for number, hours in enumerate(step_hours):
        at_ms += hours * HOUR_MS
        found.append(RolloutStepped(**common, step=number, share=0, at_ms=at_ms))
    if is_over:
        found.append(RolloutEnded(**common, outcome="promoted", at_ms=at_ms + HOUR_MS))
    for record in found:
        trigger.note(record)
        history.add_rollout(record)
    requested = trigger.request(NOW_HOURS * HOUR_MS, evaluation(), [], [], {})
    by_machine, _ = retraining(declaration.name, NOW_HOURS, "drift", 0)
    assert (requested is None) == (history.trial_refusal(by_machine, declaration) is not None)
    assert (requested is None) == (trigger.waits_for is not None)
    by_people, _ = retraining(declaration.name, NOW_HOURS, "http", 0)
    assert history.trial_refusal(by_people, declaration) is None
