"""Work and its background coroutines end together; a training is asked for when the last one is too old."""

import asyncio
from typing import Any

import pytest

from services.demo.play import Play, beside
from services.demo.retrainings import RetrainingLog
from services.demo.world import DemoWorld
from services.demo.worlds import FLIGHTS, PAYMENTS
from services.runtime.declaration import DAY_MS
from tests.unit.demo.test_gate import MODEL, requested
from tests.unit.retraining import training_data


async def _fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("background")


async def _never_end() -> None:
    await asyncio.Event().wait()


async def _briefly() -> None:
    await asyncio.sleep(0)


def test_failure_in_the_background_ends_the_work() -> None:
    with pytest.raises(ValueError, match="background"):
        asyncio.run(beside(_never_end(), _fail()))


def test_end_of_the_work_ends_the_background() -> None:
    asyncio.run(beside(_briefly(), _never_end()))


class _Days(Play):
    """A play whose event time passes at once, in which drift asks for trainings on given days."""

    def __init__(self, drift_days: list[int], until_day: int, world: DemoWorld) -> None:
        self.log = RetrainingLog(MODEL)
        self.log.add(requested("first", 0))
        self.declaration = training_data.DECLARATION.model_copy(update={"name": MODEL})
        self.days_reached: list[int] = []
        self._options: Any = type("Options", (), {"until_ms": until_day * DAY_MS, "world": world})
        self._drift_days = drift_days
        self._requests: Any = self

    async def _play_until(self, gate: Any, milestone_ms: int) -> None:
        for day in self._drift_days:
            if day * DAY_MS <= milestone_ms:
                self.log.add(requested(f"drift-{day}", day * DAY_MS))
        self.days_reached.append(milestone_ms // DAY_MS)

    async def _next_offsets(self, *names: str) -> dict[str, list[int]]:
        return {}

    async def write(self, request: Any) -> None:
        """Do as what writes requests."""
        self.log.add(request)

    async def reach(self, _: int) -> None:
        """Do as the gate."""

    async def finish(self, _: str) -> None:
        """Do as the gate."""


def scheduled_days(*drift_days: int, until_day: int, world: DemoWorld = FLIGHTS) -> list[int]:
    play = _Days(list(drift_days), until_day, world)
    asyncio.run(play._score(play))  # type: ignore[arg-type]  # it is its own gate
    assert play.days_reached[-1] == until_day
    found = [each.requested_at_ms for each in play.log.requested.values() if each.trigger == "schedule"]
    return [at_ms // DAY_MS for at_ms in found]


def test_training_is_asked_for_when_the_last_one_is_too_old() -> None:
    every = FLIGHTS.retraining_days or 0
    assert scheduled_days(until_day=2 * every + 5) == [every, 2 * every]


def test_training_by_drift_puts_the_schedule_off() -> None:
    every = FLIGHTS.retraining_days or 0
    assert scheduled_days(30, 50, until_day=every + 40) == []
    assert scheduled_days(30, until_day=every + 40) == [every + 30]


def test_world_without_a_schedule_leaves_trainings_to_drift() -> None:
    assert scheduled_days(until_day=200, world=PAYMENTS) == []
