from services.rollout import rollout_log
from streams.records import RetrainingFinished


def test_candidate_that_passed_is_a_request_with_its_id() -> None:
    finished = RetrainingFinished(
        request_id="orders-drift-1",
        model="orders",
        trigger="drift",
        requested_at_ms=5,
        result="passed",
        version=4,
    )
    found = rollout_log.request_of(finished)
    assert (found.request_id, found.model, found.version) == ("orders-drift-1", "orders", 4)
    assert found.reason == "the candidate of a retraining (drift) passed its gates"
