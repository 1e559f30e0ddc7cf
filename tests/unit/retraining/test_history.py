from typing import Literal

from services.retraining.history import RetrainingHistory
from services.runtime.declaration import DAY_MS
from streams.records import RetrainingFinished, RetrainingRequested
from tests.unit.retraining.training_data import DECLARATION, NOW_MS, request


def finished(
    asked: RetrainingRequested,
    result: Literal["promoted", "rejected", "failed"] = "promoted",
    version: int = 1,
) -> RetrainingFinished:
    return RetrainingFinished(
        request_id=asked.request_id,
        model=asked.model,
        trigger=asked.trigger,
        requested_at_ms=asked.requested_at_ms,
        result=result,
        version=version,
    )


def after(days: float) -> RetrainingRequested:
    return request("later", at_ms=NOW_MS + round(days * DAY_MS))


def test_request_with_a_result_is_finished():
    history = RetrainingHistory()
    history.add(request())
    assert not history.is_finished("r1")
    history.add(finished(request()))
    assert history.is_finished("r1")


def test_cooldown_counts_from_the_last_training_in_event_time():
    history = RetrainingHistory()
    history.add(finished(request(), "rejected"))

    assert history.cooldown_refusal(after(13.9), DECLARATION) == (
        "only 13.9 of 14 days of cooldown have passed since the last training: possible from "
        "2023-11-28 22:13 UTC; driftline retrain need not wait"
    )
    assert history.cooldown_refusal(after(14), DECLARATION) is None


def test_result_without_a_candidate_starts_no_cooldown():
    history = RetrainingHistory()
    history.add(finished(request(), "failed", version=0))
    history.add(finished(request("r2"), "rejected", version=0))

    assert history.cooldown_refusal(after(1), DECLARATION) is None


def test_who_asks_by_hand_need_not_wait():
    history = RetrainingHistory()
    history.add(finished(request()))

    assert history.cooldown_refusal(request("r2", trigger="manual"), DECLARATION) is None
    assert history.cooldown_refusal(request("r2", trigger="bootstrap"), DECLARATION) is None
