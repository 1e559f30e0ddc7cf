"""Which version serves at an event time, as the models topic has it. Pure."""

from services.model_registry import traffic_split
from streams.records import ModelChanged


def version_at(change: ModelChanged | None, at_ms: int) -> int | None:
    """Return the version of the champion in effect at an event time; None if the model has none.

    MLflow's alias is no answer: it does not move when an operator changes the arms, and it moves before a
    promotion takes effect. If every champion starts later than this time, the first of them is compared with:
    it is about to serve.
    """
    arms = [] if change is None else [arm for arm in change.arms if traffic_split.is_champion(arm)]
    if not arms:
        return None
    started = [arm for arm in arms if arm.effective_from_ms <= at_ms]
    if not started:
        return min(arms, key=lambda arm: arm.effective_from_ms).version
    latest_ms = max(arm.effective_from_ms for arm in started)
    return [arm for arm in started if arm.effective_from_ms == latest_ms][-1].version
