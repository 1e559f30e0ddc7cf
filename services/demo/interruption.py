"""Handles SIGINT and SIGTERM in the same way at any moment, from the start to the shutdown."""

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Turns the first signal into `KeyboardInterrupt`; later signals do not disturb the shutdown.

    Inside `run` it cancels the task first, so that clients disconnect and the screen is restored.
    """

    def __init__(self) -> None:
        """Install no handler before the block."""
        self.signal: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._take) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """The exit code of a shell: 128 plus the signal's number."""
        return 128 + (self.signal or 0)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in a new event loop; raise `KeyboardInterrupt` if a signal ended it."""
        import uvloop

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._watched(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            await work
        finally:
            self._loop = self._task = None

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            return
        self.signal = number
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        else:
            raise KeyboardInterrupt
