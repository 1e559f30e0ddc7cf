from typing import Any

from services.operations.models.rollout_reports import lines_of
from streams.records import GuardrailFigures, RolloutEnded, RolloutRequested, RolloutStarted, RolloutStepped

FIGURES = GuardrailFigures(
    guardrail="loss",
    evidence=7.31,
    needed=5.77,
    within=0.0,
    within_needed=3.0,
    difference=0.1,
    low=0.05,
    high=0.2,
    count=9,
)
COMMON: dict[str, Any] = {
    "rollout_id": "r1",
    "model": "m",
    "version": 4,
    "champion": 3,
    "at_ms": 1_700_000_000_000,
}


def test_each_record_is_a_line_and_evidence_follows() -> None:
    request = RolloutRequested(
        request_id="r1", model="m", version=4, requested_at_ms=0, reason="better", actor="ada"
    )
    assert lines_of(request) == ["1970-01-01T00:00:00Z  r1: version 4 requested by ada: better"]
    started = RolloutStarted(**COMMON, reason="better", actor="ada", awaits_approval=True)
    assert lines_of(started) == ["2023-11-14T22:13:20Z  r1: begins against version 3, waits for approval"]
    arms: dict[str, Any] = {"arms_before": "", "arms_after": ""}
    steps = [
        RolloutStepped(**COMMON, **arms, step=step, share=500 * step, reason="passed") for step in (0, 1)
    ]
    assert lines_of(steps[0]) == ["2023-11-14T22:13:20Z  r1: step 1, shadow: passed"]
    assert lines_of(steps[1]) == ["2023-11-14T22:13:20Z  r1: step 2, 5%: passed"]
    ended = RolloutEnded(**COMMON, **arms, outcome="rolled_back", reason="loss is worse", evidence=[FIGURES])
    assert lines_of(ended) == [
        "2023-11-14T22:13:20Z  r1: rolled back: loss is worse",
        (
            "    loss: worse 7.3 of 5.8, within the margin 0.0 of 3.0, 9 counted, "
            "difference +0.1 (+0.05 to +0.2)"
        ),
    ]
