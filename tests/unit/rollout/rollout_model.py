"""A declared model with a rollout, its predictions and labels, for the tests of the rollout."""

from typing import Any

import msgspec

from services.rollout.rollout_state import RolloutProgress
from services.runtime.declaration import ModelDeclaration
from streams.records import Arm, Label, Prediction

HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000
NEW, OLD = 2, 1
STEPS = (
    {"share": "shadow", "minimum_hours": 1, "maximum_hours": 400},
    {"share": "10%", "minimum_hours": 1, "maximum_hours": 400},
    {"share": "50%", "minimum_hours": 1, "maximum_hours": 400},
)
CHAMPION = [Arm(name="champion", version=OLD, weight=10_000)]


def declaration(request_key: str | None = None, **rollout: Any) -> ModelDeclaration:
    """Return a binary model whose labels come within an hour."""
    request = {
        "topic": "orders",
        "id": "id",
        "event_time": "at",
        "schema": {"id": "string", "at": "timestamp", "shop": "string"},
    }
    if request_key is not None:
        request["key"] = request_key
    settings = {
        "steps": list(STEPS),
        "guardrails": {"loss": {"margin": 0.05}},
        "block_hours": 1,
        **rollout,
    }
    return ModelDeclaration.model_validate(
        {
            "name": "returned",
            "owner": "shop@driftline.example",
            "task": "binary",
            "request": request,
            "features": {"from_request": ["shop"]},
            "label": {
                "topic": "returns",
                "id": "id",
                "event_time": "at",
                "value": "days",
                "positive_above": 1,
                "horizon_hours": 1,
                "schema": {"id": "string", "at": "timestamp", "days": "float"},
            },
            "rollout": settings,
        }
    )


def progress(step: int, share: int, **changes: Any) -> RolloutProgress:
    """Return a rollout whose step began at `START_MS`."""
    found = RolloutProgress(
        rollout_id="r1",
        version=NEW,
        champion=OLD,
        phase="running",
        at_ms=START_MS,
        reason="a test",
        step=step,
        share=share,
    )
    return msgspec.structs.replace(found, **changes)


def prediction(number: int, time_ms: int, score: float = 0.3, **changes: Any) -> Prediction:
    """Return a prediction of the champion, in partition 0."""
    found = Prediction(
        prediction_id=f"p{number}",
        model="returned",
        version=OLD,
        arm="champion",
        arm_weight=10_000,
        event_time_ms=time_ms,
        scored_time_ms=time_ms,
        source_partition=0,
        source_offset=number,
        features=[],
        features_lag_ms=None,
        score=score,
        prediction=0,
        call_us=1000,
    )
    return msgspec.structs.replace(found, **changes)


def shadowed(
    number: int, time_ms: int, score: float, shadow_score: float | None, **changes: Any
) -> Prediction:
    """Return a prediction of the champion with the score of the new version as a shadow."""
    scores = {} if shadow_score is None else {"challenger": shadow_score}
    return prediction(
        number,
        time_ms,
        score,
        shadow_versions={"challenger": NEW},
        shadow_scores=scores,
        shadow_call_us=dict.fromkeys(scores, 1000),
        **changes,
    )


def label(number: int, time_ms: int, value: float) -> Label:
    """Return a label of a prediction, in partition 0."""
    return Label(
        prediction_id=f"p{number}",
        event_time_ms=time_ms,
        value=value,
        source_partition=0,
        source_offset=number,
    )
