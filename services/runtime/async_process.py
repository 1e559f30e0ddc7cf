"""A process with one event loop: from start to stop, within bounds. Those that block: `blocking_process`."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import structlog
import uvloop

from streams import garbage
from streams.shutdown import exit_within_bounds

log = structlog.get_logger()

Context = contextlib.AbstractAsyncContextManager[Any]
Failure = Callable[[], str | None]
"""Returns why a process cannot continue, None while it can."""
CHECK_SECONDS = 0.5
"""Time between two checks for a failure."""
SWITCH_SECONDS = 0.0001
"""Python's thread switch interval. With the default, fifty times as long, the event loop waits that long at
each of its turns while a model predicts on a thread, and the model waits that long whenever it has released
Python's lock: a slice takes about ten turns, a model about five."""


def run(*during: Context, failure: Failure = lambda: None) -> None:
    """Run until SIGINT or SIGTERM, within these contexts; exit with 1 after a failure.

    The contexts are entered in order and left in reverse order.
    """
    # The policy is for the loops of Faust's consumers, too: ours waits for Python's lock while they work.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if asyncio.run(_run(during, failure)):
        raise SystemExit(1)


async def _run(during: Sequence[Context], failure: Failure) -> bool:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        for context in during:
            await stack.enter_async_context(context)
        garbage.settle()
        sys.setswitchinterval(SWITCH_SECONDS)
        log.info("process.started")
        reason = await _wait(stopping, failure)
        if reason is None:
            log.info("process.stopping")
        else:
            log.error("process.crashed", error=reason)
        exit_within_bounds(int(reason is not None))
    return reason is not None


async def _wait(stopping: asyncio.Event, failure: Failure) -> str | None:
    while not stopping.is_set():
        if reason := failure():
            return reason
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), CHECK_SECONDS)
    return None


class BackgroundTask:
    """Work beside the rest of a process; if it ends by itself, the process cannot continue."""

    def __init__(self, name: str, work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
        """Take a coroutine function that ends when the event is set; nothing starts before `running`."""
        self._name = name
        self._work = work
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run until the block ends; then set the event, wait for the work to end, and raise its error."""
        stopping = asyncio.Event()
        self._task = asyncio.create_task(self._work(stopping), name=self._name)
        try:
            yield
        finally:
            stopping.set()
            await self._task

    def failure(self) -> str | None:
        """Return why the work has ended by itself, None while it runs."""
        if self._task is None or not self._task.done():
            return None
        error = "cancelled" if self._task.cancelled() else repr(self._task.exception())
        return f"{self._name} ended: {error}"
