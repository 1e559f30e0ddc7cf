"""A process with one event loop: from start to stop, within bounds. Those that block: `blocking_process`."""

import asyncio
import contextlib
import itertools
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import structlog
import uvloop

from streams import back_off, garbage
from streams.outages import is_outage
from streams.shutdown import exit_within_bounds

log = structlog.get_logger()

Context = contextlib.AbstractAsyncContextManager[Any]
Failure = Callable[[], str | None]
"""Returns why a process cannot continue, None while it can."""
CHECK_SECONDS = 0.5
"""Time between two checks for a failure."""
START_PAUSE_SECONDS_MIN, START_PAUSE_SECONDS_MAX = 0.5, 5.0
"""Pause after an outage at the start; doubled each time."""
SWITCH_SECONDS = 0.0001
"""Python's thread switch interval. With the default, fifty times as long, the event loop waits that long at
each of its turns while a model predicts on a thread, and the model waits that long whenever it has released
Python's lock: a slice takes about ten turns, a model about five."""


class StartOutageError(RuntimeError):
    """The process has to start again: a server was away while it started, or what it reads was replaced."""


def run(*during: Context, failure: Failure = lambda: None) -> None:
    """Run until SIGINT or SIGTERM, within these contexts; exit with 1 after a failure.

    The contexts are entered in order and left in reverse order.

    Raises:
        StartOutageError: A context could not be entered because a server is away, or ``failure`` raised it;
            all are left.
    """
    # The policy is for the loops of Faust's consumers, too: ours waits for Python's lock while they work.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if asyncio.run(_run(during, failure)):
        raise SystemExit(1)


def run_again(make_and_run: Callable[[], None], stopping: threading.Event | None = None) -> None:
    """Make a process and `run` it, and again from the beginning while a server is away at its start.

    SIGINT and SIGTERM set ``stopping`` in the pause between two starts, and this process ends.

    After any other error this process ends within bounds: without them, Python would wait for the child
    processes that were started, perhaps without end, and nobody would start this one again.
    """
    stopping = stopping or threading.Event()
    for starts in itertools.count(1):
        try:
            make_and_run()
        except StartOutageError as outage:
            pause_seconds = back_off.pause_seconds(starts, START_PAUSE_SECONDS_MIN, START_PAUSE_SECONDS_MAX)
            log.warning("process.outage", error=repr(outage.__cause__), pause_seconds=pause_seconds)
            _set_on_signals(stopping)
            if stopping.wait(pause_seconds):
                exit_within_bounds(0)
                return
        except BaseException:
            exit_within_bounds(1)
            raise
        else:
            return


def _set_on_signals(stopping: threading.Event) -> None:
    """Replace the handlers of the event loop, which outlive it without effect."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())


async def _run(during: Sequence[Context], failure: Failure) -> bool:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    is_started = asyncio.Event()
    try:
        return await _started(during, failure, stopping, is_started)
    except StartOutageError:  # of ``failure``: this process continues, and has no time limit
        raise
    except Exception as error:
        if is_started.is_set() or not is_outage(error):
            exit_within_bounds(1)
            raise
        if stopping.is_set():
            return False
        raise StartOutageError from error


async def _started(
    during: Sequence[Context], failure: Failure, stopping: asyncio.Event, is_started: asyncio.Event
) -> bool:
    async with contextlib.AsyncExitStack() as stack:
        for context in during:
            await stack.enter_async_context(context)
        is_started.set()
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
