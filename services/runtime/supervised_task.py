"""A task that never ends unnoticed: after an error it is logged and started again, with back-off."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import structlog

from streams import back_off, outages

log = structlog.get_logger()

RESTART_SECONDS = 1.0
"""Pause after the first error; doubled after each further one."""
RESTART_SECONDS_MAX = 30.0
HEALTHY_SECONDS = 10.0
"""Time that the work must run without an error until its last failure is no longer shown."""

Work = Callable[[], Coroutine[Any, Any, None]]


class SupervisedTask:
    """Work of a process that must continue until the process stops."""

    def __init__(
        self,
        name: str,
        work: Work,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a coroutine function that runs until it is cancelled; nothing starts before `running`."""
        self._name = name
        self._work = work
        self._sleep = sleep
        self._clock = clock
        self._reason: str | None = None
        self._started_seconds: float | None = None
        """None while the next start is waited for."""

    @property
    def failure(self) -> str | None:
        """Why the work does not run, or ended a moment ago; None while it runs."""
        started = self._started_seconds
        is_healthy = started is not None and self._clock() - started >= HEALTHY_SECONDS
        return None if is_healthy else self._reason

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the work until the block ends, then cancel it and wait for its end."""
        task = asyncio.create_task(self._supervise(), name=self._name)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _supervise(self) -> None:
        failures = 0
        while True:
            self._started_seconds = self._clock()
            try:
                await self._work()
                self._reason = f"{self._name} ended without an error"
            except Exception as error:  # noqa: BLE001  # whatever the error, the work must continue
                self._reason = f"{self._name} failed: {error!r}"
                report = log.warning if outages.is_outage(error) else log.exception
                report("task.failed", task=self._name, error=repr(error), failures=failures + 1)
            failures = 1 if self._clock() - self._started_seconds >= HEALTHY_SECONDS else failures + 1
            self._started_seconds = None
            await self._sleep(back_off.pause_seconds(failures, RESTART_SECONDS, RESTART_SECONDS_MAX))
