"""Requests that wait hold the committed offset and are shown; everything else goes on."""

import msgspec
from structlog.testing import capture_logs

from services.retraining.waiting_requests import NAMED_MAX, WaitingRequests
from tests.unit.retraining.training_data import request


def test_the_committed_offset_stays_at_the_first_that_waits() -> None:
    waiting = WaitingRequests()
    assert waiting.position(3) == 3
    waiting.add(3, request("r1"), "invalid")
    waiting.add(5, request("r2"), "invalid")
    assert [waiting.position(offset) for offset in (4, 6)] == [3, 3]
    waiting.begin()
    assert (waiting.position(6), waiting.detail()) == (6, {})


def test_a_reason_is_logged_once_also_in_the_next_session() -> None:
    waiting = WaitingRequests()
    with capture_logs() as logs:
        for reason in ("line 3", "line 3", "line 4"):
            waiting.begin()
            waiting.add(1, request("r1"), reason)
            waiting.add(2, request("r2"), reason)
    assert [each["reason"] for each in logs] == ["line 3", "line 4"]


def test_the_first_requests_of_each_model_are_named() -> None:
    waiting, other = WaitingRequests(), msgspec.structs.replace(request("b"), model="a")
    for number in range(NAMED_MAX + 5):
        waiting.add(number, request(f"r{number}"), "invalid")
    waiting.add(NAMED_MAX + 5, other, "line 7")
    assert waiting.detail() == {
        "retrainings_waiting": {
            "a": ["b: line 7"],
            "arrival_delay": [f"r{number}: invalid" for number in range(NAMED_MAX)],
        }
    }
