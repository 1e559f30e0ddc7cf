"""A supervised task goes on after any error, tells why it does not run, and ends with its block."""

import asyncio
from typing import Any

from structlog.testing import capture_logs

from services.runtime.supervised_task import HEALTHY_SECONDS, RESTART_SECONDS_MAX, SupervisedTask
from tests.waiting import LIVENESS_SECONDS


class Scenario:
    """Work with one outcome for each start, and the pauses between the starts."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.pauses: list[float] = []
        self.seen: list[str | None] = []
        self.seconds = 0.0
        self.done = asyncio.Event()
        self.subject = SupervisedTask("the work", self.work, sleep=self.sleep, clock=lambda: self.seconds)

    async def work(self) -> None:
        if not self.outcomes:
            self.done.set()
            await asyncio.Event().wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, float):
            self.seconds += outcome
            raise OSError("later")
        if outcome is not None:
            raise outcome

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seen.append(self.subject.failure)
        await asyncio.sleep(0)

    async def run(self) -> None:
        async with asyncio.timeout(LIVENESS_SECONDS), self.subject.running():
            await self.done.wait()


def test_any_error_is_logged_and_shown_and_the_work_starts_again():
    async def run():
        scenario = Scenario(RecursionError("deep"), None)
        await scenario.run()
        return scenario

    with capture_logs() as logs:
        scenario = asyncio.run(run())
    assert scenario.seen == [
        "the work failed: RecursionError('deep')",
        "the work ended without an error",
    ]
    assert [each["event"] for each in logs] == ["task.failed"]


def test_the_pauses_grow_up_to_their_maximum_and_begin_anew_after_a_healthy_time():
    async def run():
        scenario = Scenario(*[OSError()] * 7, HEALTHY_SECONDS)
        await scenario.run()
        return scenario.pauses

    with capture_logs():
        pauses = asyncio.run(run())
    assert pauses == [1, 2, 4, 8, 16, RESTART_SECONDS_MAX, RESTART_SECONDS_MAX, 1]


def test_a_failure_is_shown_until_the_work_has_run_for_a_while():
    async def run():
        scenario = Scenario(OSError("away"))
        async with asyncio.timeout(LIVENESS_SECONDS), scenario.subject.running():
            assert scenario.subject.failure is None
            await scenario.done.wait()
            before = scenario.subject.failure
            scenario.seconds += HEALTHY_SECONDS
            return before, scenario.subject.failure

    with capture_logs():
        assert asyncio.run(run()) == ("the work failed: OSError('away')", None)
