"""The threads on which models score and load: as many as are needed, but few for each model.

One pool serves all models, and a thread that is idle is taken before another is started. A model has a
bound of its own, so that one that hangs holds no thread that another needs.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS_MAX = 4096
"""Above all that the models of one process may hold together; an idle one costs some 50 kB."""
_pool = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="model")


class Threads:
    """What one model may use."""

    def __init__(self, count: int) -> None:
        """Let so many calls run at once, and behind them one more, for what may wait: loading, shadows."""
        self._turns = asyncio.Semaphore(count)
        self._turns_behind = asyncio.Semaphore(1)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function for an answer."""
        return await _run(self._turns, function, *args, **kwargs)

    async def run_behind(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function for which no answer waits; it takes no answer's turn."""
        return await _run(self._turns_behind, function, *args, **kwargs)


async def _run(turns: asyncio.Semaphore, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    await turns.acquire()
    try:
        future = _pool.submit(function, *args, **kwargs)
    except BaseException:
        turns.release()
        raise
    loop = asyncio.get_running_loop()

    def release(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(turns.release)

    # The turn ends with the call, not with whoever waits for it: a cancelled call still holds its thread.
    future.add_done_callback(release)
    return await asyncio.wrap_future(future)
