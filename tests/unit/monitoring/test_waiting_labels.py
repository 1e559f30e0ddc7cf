"""Which labels wait for their prediction, and for how long."""

import pytest

from services.monitoring import waiting_labels
from services.monitoring.waiting_labels import WAIT_MS, WaitingLabels
from tests.unit.drift import scenario
from tests.unit.drift.scenario import START_MS


def waiting(*numbers: int) -> WaitingLabels:
    found = WaitingLabels()
    for number in numbers:
        found.add(scenario.label(number, START_MS + number, 1.0), START_MS + number)
    return found


def test_label_is_found_by_the_id_of_its_prediction() -> None:
    found = waiting(1, 2)
    entry = found.pop("p1")
    assert entry is not None
    assert (entry.label.prediction_id, entry.counts_at_ms, len(found)) == ("p1", START_MS + 1, 1)
    assert (found.pop("p1"), found.pop("p9")) == (None, None)


def test_labels_of_one_prediction_wait_together() -> None:
    found = waiting(1, 2, 1)
    restored = WaitingLabels(found.entries())
    entry = restored.pop("p1")
    assert entry is not None
    assert (entry.count, entry.counts_at_ms, len(restored), len(found)) == (2, START_MS + 1, 1, 3)
    assert found.give_up(START_MS + WAIT_MS + 2) == 2


def test_a_label_does_not_join_those_that_have_waited_for_too_long() -> None:
    """So it does not matter when they are removed."""
    found = waiting(1)
    assert found.add(scenario.label(1, START_MS, 1.0), START_MS + WAIT_MS + 2) == 1
    assert [entry.counts_at_ms for entry in found.entries()] == [START_MS + WAIT_MS + 2]


def test_oldest_give_up_after_the_wait() -> None:
    found = waiting(1, 2, 3)
    assert found.give_up(START_MS + WAIT_MS + 1) == 0
    assert found.give_up(START_MS + WAIT_MS + 3) == 2
    assert [entry.label.prediction_id for entry in found.entries()] == ["p3"]


def test_newest_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_labels, "WAITING_MAX", 2)
    found = waiting(1, 2)
    assert found.add(scenario.label(3, START_MS, 1.0), START_MS + 3) == 1
    assert [entry.label.prediction_id for entry in found.entries()] == ["p2", "p3"]


def test_entries_restore_what_waits() -> None:
    found = WaitingLabels(waiting(1, 2).entries())
    assert (len(found), found.pop("p2") is not None) == (2, True)
