"""Which request begins when, and what is committed."""

from services.retraining.request_queue import NAMED_MAX, PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN, RequestQueue
from streams.records import RetrainingRequested


def request(request_id: str, model: str = "delay") -> RetrainingRequested:
    return RetrainingRequested(
        request_id=request_id, model=model, trigger="manual", requested_at_ms=1, reason="by hand"
    )


def due(queue: RequestQueue, now: float = 0.0, busy: tuple[str, ...] = ()) -> list[str]:
    return [each.request.request_id for each in queue.due(now, busy)]


def test_each_model_trains_one_request_after_the_other() -> None:
    queue = RequestQueue()
    for offset, (name, model) in enumerate((("r1", "delay"), ("r2", "delay"), ("r3", "arrival"))):
        queue.add(offset, request(name, model))
    assert due(queue) == ["r1", "r3"]
    assert due(queue, busy=("delay",)) == ["r3"]
    (first, _) = queue.due(0, ())
    queue.remove(first)
    assert due(queue) == ["r2", "r3"]


def test_a_request_that_waits_blocks_no_other_model_but_its_own() -> None:
    queue = RequestQueue()
    for offset, (name, model) in enumerate((("r1", "delay"), ("r2", "delay"), ("r3", "arrival"))):
        queue.add(offset, request(name, model))
    (first, _) = queue.due(0, ())
    assert queue.postpone(first, "MLflow is away", 0)
    assert due(queue) == ["r3"]
    assert due(queue, PAUSE_SECONDS_MIN) == ["r1", "r3"]
    assert queue.detail() == {"retrainings_waiting": {"delay": ["r1: MLflow is away"]}}
    queue.wake()
    assert due(queue) == ["r1", "r3"]


def test_pauses_grow_to_a_bound_while_the_reason_is_the_same() -> None:
    queue = RequestQueue()
    queue.add(0, request("r1"))
    (found,) = queue.due(0, ())
    pauses = []
    for _ in range(20):
        queue.postpone(found, "away", 0)
        pauses.append(found.due_seconds)
    assert pauses[:3] == [PAUSE_SECONDS_MIN, 2 * PAUSE_SECONDS_MIN, 4 * PAUSE_SECONDS_MIN]
    assert pauses[-1] == PAUSE_SECONDS_MAX
    assert queue.postpone(found, "another", 0)
    assert found.due_seconds == PAUSE_SECONDS_MIN


def test_the_first_open_request_is_where_a_restart_begins() -> None:
    queue = RequestQueue()
    assert queue.position(7) == 7
    for offset in (3, 5):
        queue.add(offset, request(f"r{offset}", f"m{offset}"))
    assert queue.position(7) == 3
    queue.remove(queue.due(0, ("m5",))[0])
    assert queue.position(7) == 5
    queue.clear()
    assert queue.position(7) == 7
    assert queue.detail() == {}


def test_an_id_that_is_open_is_not_taken_twice() -> None:
    queue = RequestQueue()
    queue.add(3, request("r1"))
    queue.add(4, request("r1", "other"))
    assert due(queue) == ["r1"]


def test_the_readiness_names_few_requests_of_a_model() -> None:
    queue = RequestQueue()
    for offset in range(2 * NAMED_MAX):
        queue.add(offset, request(f"r{offset}", f"m{offset}"))
    for queued in queue.due(0, ()):
        queued.request = request(queued.request.request_id, "m")
        queue.postpone(queued, "away", 0)
    found = queue.detail()["retrainings_waiting"]
    assert found == {"m": [f"r{number}: away" for number in range(NAMED_MAX)]}
