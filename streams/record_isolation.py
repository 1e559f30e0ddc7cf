"""Attempts at records until all are done: an outage is waited for, a record at fault is isolated.

An outage (`streams.outages`) is waited for without a limit. Any other error is a defect. After
`defects.ATTEMPTS_MAX` attempts that end with a defect, the records are attempted in halves, in order, and a
half that fails in halves again. A single record that fails is attempted once more as a defect: its handler
then writes it to the dead letters. If this fails, too, no record is at fault, and it is waited for as in an
outage.

With k records at fault among n, isolation costs about 2 k log2(n) attempts.
"""

import asyncio
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, Self, TypeVar

from streams import back_off
from streams.defects import ATTEMPTS_MAX, panics_as_errors, reason_of
from streams.outages import OutageError, is_outage

RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.2, 5.0
"""Pause before the same records are attempted again; doubled at each error."""

Sleep = Callable[[float], Awaitable[None]]


class Divisible(Protocol):
    """Consecutive records, at least one."""

    def __len__(self) -> int: ...

    def halves(self) -> tuple[Self, Self]:
        """Return the first half of at least two records, and the rest."""

    def as_defect(self, reason: str) -> Self:
        """Return the only record with the reason why it becomes a dead letter."""


W = TypeVar("W", bound=Divisible)


@dataclasses.dataclass(frozen=True, slots=True)
class FailedAttempt(Generic[W]):
    """An attempt that failed, and what follows."""

    work: W
    error: Exception
    count: int
    """Failures since something was done, including this one."""
    since_seconds: float
    """The time of the first attempt, by the clock."""
    pause_seconds: float
    """Time until the same records are attempted again; 0 if they are divided or isolated instead."""
    is_stuck: bool = False
    """Whether the record failed even as a defect: no record is at fault."""


class RecordIsolation(Generic[W]):
    """The attempts at the records of one slice; see the module."""

    def __init__(
        self,
        attempt: Callable[[W], Awaitable[None]],
        *,
        on_failure: Callable[[FailedAttempt[W]], None] = lambda _failed: None,
        on_isolated: Callable[[W, str], None] = lambda _work, _reason: None,
        may_isolate: Callable[[], bool] = lambda: True,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the work.

        Args:
            attempt: Does some of the records; raises if they are not done.
            on_failure: Called with each failed attempt, before the pause.
            on_isolated: Called with each record that was done as a defect, and its reason.
            may_isolate: Returns whether a record may be done as a defect now; if not, it is attempted again.
            sleep: Waits for a number of seconds.
            clock: Returns seconds; only differences count.
        """
        self._attempt = attempt
        self._on_failure = on_failure
        self._on_isolated = on_isolated
        self._may_isolate = may_isolate
        self._sleep = sleep
        self._clock = clock
        self.failed: FailedAttempt[W] | None = None
        """The last attempt, if it failed."""

    async def complete(self, work: W) -> None:
        """Attempt the records until all are done."""
        defect = await self._defect_of(work, ATTEMPTS_MAX)
        if defect is not None:
            await self._divide(work, defect)

    async def _divide(self, work: W, defect: Exception) -> None:
        """Find the records at fault among some that fail with a defect."""
        self._note(work, defect, 0)
        if len(work) == 1:
            await self._isolate(work, defect)
            return
        for half in work.halves():
            found = await self._defect_of(half, 1)
            if found is not None:
                await self._divide(half, found)

    async def _isolate(self, work: W, defect: Exception | None) -> None:
        """Do a single record as a defect; if that fails or is not permitted, attempt it again."""
        while defect is not None:
            stuck: Exception | None = defect
            if self._may_isolate():
                reason = reason_of(defect)
                stuck = await self._defect_of(work.as_defect(reason), 1)
                if stuck is None:
                    self._on_isolated(work, reason)
                    return
            await self._pause(work, stuck or defect, is_stuck=True)
            defect = await self._defect_of(work, 1)

    async def _defect_of(self, work: W, attempts_max: int) -> Exception | None:
        """Attempt records until they are done, or fail with a defect so often; return the last defect."""
        defects = 0
        while True:
            try:
                with panics_as_errors():
                    await self._attempt(work)
            except Exception as error:  # noqa: BLE001  # no record may be lost, whatever the error
                defects += not is_outage(error)
                if defects == attempts_max:
                    return error
                await self._pause(work, error)
            except asyncio.CancelledError as error:
                if _is_cancelled():
                    raise
                await self._pause(work, OutageError(f"a task that this work needs was cancelled: {error}"))
            else:
                self.failed = None
                return None

    async def _pause(self, work: W, error: Exception, *, is_stuck: bool = False) -> None:
        count = self.failed.count if self.failed else 0
        pause_seconds = _with_jitter(back_off.pause_seconds(count + 1, RETRY_SECONDS_MIN, RETRY_SECONDS_MAX))
        self._note(work, error, pause_seconds, is_stuck=is_stuck)
        await self._sleep(pause_seconds)

    def _note(self, work: W, error: Exception, pause_seconds: float, *, is_stuck: bool = False) -> None:
        last = self.failed
        count, since_seconds = (last.count, last.since_seconds) if last else (0, self._clock())
        self.failed = FailedAttempt(work, error, count + 1, since_seconds, pause_seconds, is_stuck)
        self._on_failure(self.failed)


def _is_cancelled() -> bool:
    """Tell whether this task is cancelled, and not only what it waits for: then nobody would go on."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _with_jitter(longest_seconds: float) -> float:
    """Return a part of a pause, so that workers do not retry at the same time."""
    return longest_seconds * random.SystemRandom().uniform(0.5, 1)
