"""Requests by schedule and by labels: when they are due, each once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import structlog

from services.retraining.history import RetrainingHistory
from services.retraining.scheduled_requests import (
    CHECK_SECONDS,
    RETRY_HOURS,
    ScheduledRequests,
    count_labels,
)
from services.runtime.declaration import DAY_MS, HOUR_MS
from services.runtime.settings import Settings
from streams.records import RetrainingFinished
from tests.unit.retraining.archived_rows import MODEL, archive, outcome, prediction
from tests.unit.retraining.training_data import NOW_MS, declaration


def finished(at_ms: int, version: int = 1) -> RetrainingFinished:
    result: Any = "promoted" if version else "failed"
    return RetrainingFinished(
        request_id=f"r{at_ms}", model=MODEL, trigger="manual", requested_at_ms=at_ms, result=result,
        version=version,
    )  # fmt: skip


class World:
    """One model, its history and its labels; each check is late enough for the next."""

    def __init__(self, **declared: Any) -> None:
        self.history = RetrainingHistory()
        self.labels = 0
        folder = SimpleNamespace(valid={MODEL: declaration(**declared)})
        self.waits_for: str | None = None
        self.scheduled = ScheduledRequests(
            cast("Any", folder), self.history, lambda *_: self.labels, lambda *_: self.waits_for
        )
        self.now_seconds = 0.0

    def due(self, now_ms: int) -> list[str]:
        self.now_seconds += CHECK_SECONDS
        found = self.scheduled.due(self.now_seconds, now_ms)
        for request in found:
            self.history.add(request)
        return [request.request_id for request in found]


def test_nothing_is_due_that_is_not_declared() -> None:
    world = World()
    world.labels = 10**9
    assert world.due(NOW_MS) == []


def test_a_schedule_is_due_so_many_days_after_the_last_training_and_once() -> None:
    world = World(every_days=30)
    world.history.add(finished(NOW_MS))
    assert world.due(NOW_MS + 30 * DAY_MS - 1) == []
    assert world.due(NOW_MS + 30 * DAY_MS) == [f"{MODEL}-schedule-{NOW_MS}-0"]
    assert world.due(NOW_MS + 31 * DAY_MS) == [], "it is open"


def test_a_model_without_a_version_is_due_at_once() -> None:
    assert World(every_days=30).due(NOW_MS) == [f"{MODEL}-schedule-0-0"]


def test_labels_since_the_last_training_are_due_after_the_cooldown() -> None:
    world = World(after_labels=500, cooldown_days=2)
    world.history.add(finished(NOW_MS))
    world.labels = 499
    assert world.due(NOW_MS + 3 * DAY_MS) == []
    world.labels = 500
    assert world.due(NOW_MS + DAY_MS) == []
    assert world.due(NOW_MS + 2 * DAY_MS) == [f"{MODEL}-labels-{NOW_MS}-0"]


def test_after_a_failure_it_is_asked_again_once_a_day() -> None:
    world = World(every_days=30)
    (first,) = world.due(NOW_MS)
    failed: Any = RetrainingFinished(
        request_id=first, model=MODEL, trigger="schedule", requested_at_ms=NOW_MS, result="failed", version=0
    )
    world.history.add(failed)
    assert world.due(NOW_MS + RETRY_HOURS * HOUR_MS - 1) == []
    assert world.due(NOW_MS + RETRY_HOURS * HOUR_MS) == [f"{MODEL}-schedule-0-1"]


def test_checks_are_a_minute_apart() -> None:
    world = World(every_days=30)
    assert world.scheduled.due(0.0, NOW_MS) != []
    assert world.scheduled.due(CHECK_SECONDS - 1, NOW_MS) == []


@pytest.mark.parametrize(("since_ms", "count"), [(0, 2), (110, 1), (200, 0)])
def test_labels_are_counted_in_the_archive(tmp_path: Path, since_ms: int, count: int) -> None:
    settings, declared = Settings(home=tmp_path), declaration()
    assert count_labels(settings, declared, 0) == 0
    archive(settings, [], [outcome("a", 10), outcome("b", 20)])
    assert count_labels(settings, declared, since_ms) == count
    assert count_labels(settings, declared.model_copy(update={"name": "another"}), 0) == 0


@pytest.mark.parametrize(("since_ms", "count"), [(0, 3), (120, 1), (130, 0)])
def test_absent_labels_are_counted_when_their_horizon_has_passed(
    tmp_path: Path, since_ms: int, count: int
) -> None:
    settings = Settings(home=tmp_path)
    declared = declaration("label", absent=0, horizon_hours=100 / HOUR_MS)
    assert count_labels(settings, declared, 0) == 0
    predictions = [prediction(str(time_ms), time_ms, [1]) for time_ms in (10, 20, 30, 40)]
    archive(settings, predictions, [msgspec.structs.replace(outcome("10", 10), label_time_ms=135)])
    assert count_labels(settings, declared, since_ms) == count


def test_a_request_that_waits_for_a_version_on_trial_is_made_later_and_its_reason_is_logged_once() -> None:
    world = World(every_days=30)
    world.history.add(finished(NOW_MS))
    world.waits_for = "version 2 is on trial"
    with structlog.testing.capture_logs() as logs:
        assert world.due(NOW_MS + 30 * DAY_MS) == []
        assert world.due(NOW_MS + 31 * DAY_MS) == []
    assert [(each["event"], each["reason"]) for each in logs] == [
        ("retraining.request_waits", "version 2 is on trial")
    ]
    world.waits_for = None
    assert world.due(NOW_MS + 32 * DAY_MS) == [f"{MODEL}-schedule-{NOW_MS}-0"]
