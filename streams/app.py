"""The life of a process with an event loop: from start to stop, within bounds."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import structlog
import uvloop

from streams import garbage
from streams.stopping import exit_within_bounds

log = structlog.get_logger()

Context = contextlib.AbstractAsyncContextManager[Any]
Failure = Callable[[], str | None]
"""Tells why a process cannot go on, None as long as it can."""
LOOK_SECONDS = 0.5
SWITCH_SECONDS = 0.0001
"""After which a thread that computes lets another one go on. With Python's default, fifty times as long, the
event loop waits so long at each of its turns while a model answers on a thread, and the model whenever it
has let go of Python's lock: a slice has some ten turns, a model some five."""


def run(*during: Context, failure: Failure = lambda: None) -> None:
    """Run until SIGINT or SIGTERM, within these contexts; exit with 1 after a failure.

    They are entered in order and left in the opposite one.
    """
    # For the loops of Faust's consumers, too, in their threads: ours waits for Python's lock while they work.
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
            await asyncio.wait_for(stopping.wait(), LOOK_SECONDS)
    return None
