"""The threads on which models score and load: as many as needed, with a bound for each model.

One pool serves all models; an idle thread is used before another is started. Each model has its own
bound, so a model that hangs does not occupy the threads that other models need.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS_MAX = 4096
"""Above what all models of one process may use together; an idle thread costs some 50 kB."""
_pool = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="model")


class ThreadLimits:
    """The threads that one model may use at the same time."""

    def __init__(self, count: int) -> None:
        """Allow ``count`` calls for predictions, and one more for background work: loading, shadows."""
        self._slots = asyncio.Semaphore(count)
        self._background_slots = asyncio.Semaphore(1)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function for a prediction."""
        return await _run(self._slots, function, *args, **kwargs)

    async def run_in_background(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function that no prediction waits for; it takes no slot of a prediction."""
        return await _run(self._background_slots, function, *args, **kwargs)


async def _run(slots: asyncio.Semaphore, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    await slots.acquire()
    try:
        future = _pool.submit(function, *args, **kwargs)
    except BaseException:
        slots.release()
        raise
    loop = asyncio.get_running_loop()

    def release(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: no call waits for a slot
            loop.call_soon_threadsafe(slots.release)

    # The slot is released with the call, not with its caller: a cancelled call still occupies its thread.
    future.add_done_callback(release)
    return await asyncio.wrap_future(future)
