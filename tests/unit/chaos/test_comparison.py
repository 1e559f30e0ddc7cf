"""What two summaries are compared by."""

import copy
from typing import Any

import pytest

from tests.chaos.comparison import differences, letter_faults

CALM: dict[str, Any] = {
    "requests_sent": 10,
    "predicted": 10,
    "collected": 5,
    "labels_joined": 14,
    "labels_orphaned": 0,
    "predictions_unlabelled": 1,
    "months": [{"month": "2013-02", "log_loss_live": 0.5}],
    "alarms": [{"kind": "loss", "value": 0.7}],
    "retrainings": [
        {
            "time": "t",
            "trigger": "drift",
            "version": 2,
            "result": "promoted",
            "rows": 9,
            "duration_seconds": 1,
        }
    ],
    "minutes": {"predicted": 10, "collected": 5, "version": 3, "repeats": 0, "months": []},
    "complete": True,
    "faults": [],
    "seconds": 60.0,
    "repeats": 0,
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the calm summary with one value changed, which is named as in ``months.0.log_loss_live``."""
    found = copy.deepcopy(CALM)
    *parents, last = path.split(".")
    place: Any = found
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("requests_sent", 11),
        ("predicted", 9),
        ("collected", 6),
        ("labels_joined", 13),
        ("labels_orphaned", 1),
        ("predictions_unlabelled", 2),
        ("months.0.log_loss_live", 0.500001),
        ("alarms", []),
        ("alarms.0.value", 0.8),
        ("retrainings", []),
        ("retrainings.0.rows", 8),
        ("retrainings.0.time", "later"),
        ("minutes.predicted", 9),
        ("minutes.version", 4),
        ("minutes.months", [{"month": "2013-02"}]),
        ("complete", False),
        ("faults", ["lost"]),
    ],
)
def test_difference_is_told(path: str, value: Any) -> None:
    (found,) = differences(CALM, changed(path, value))
    assert path.split(".", maxsplit=1)[0].rstrip("s") in found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("repeats", 100),
        ("minutes.repeats", 100),
        ("seconds", 600.0),
        ("retrainings.0.duration_seconds", 30),
        ("months.0.log_loss_live", 0.5 + 1e-12),
    ],
)
def test_what_a_disturbance_may_change_is_no_difference(path: str, value: Any) -> None:
    assert differences(CALM, changed(path, value)) == []


def test_dead_letters_are_those_of_the_garbage_that_is_refused() -> None:
    refused, skipped, own = ("t", 0, 7), ("t", 1, 8), ("t", 0, 6)
    garbage = {refused: "empty", skipped: "null"}
    assert letter_faults(garbage, {refused}, {refused: "truncated"}) == []
    assert letter_faults(garbage, {refused}, {refused: "truncated", skipped: "odd"}) == []
    assert letter_faults(garbage, {refused}, {}) == ["no dead letter of empty, t, partition 0, offset 7"]
    assert letter_faults({}, set(), {own: "late"}) == [
        "a dead letter of a record of the demo, t, partition 0, offset 6: late"
    ]
