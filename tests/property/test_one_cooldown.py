"""Drift requests nothing that retraining rejects for the cooldown, and nothing less."""

from hypothesis import given
from hypothesis import strategies as st

from services.drift.retraining_trigger import RetrainingTrigger
from services.retraining.history import RetrainingHistory
from services.runtime.declaration import HOUR_MS
from streams.records import RetrainingFinished, RetrainingRequested, Trigger
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
