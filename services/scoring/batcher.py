"""Adaptive batches: the requests that wait when a batch ends form the next one, so batches grow with load.

No request is delayed to wait for others: an idle model gets it at once. Requests that arrive within one turn
of the event loop share a batch. They do not share its errors: if a batch fails, and not because of an outage,
each of its calls is processed again alone, so only the one at fault fails.
"""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from streams.defects import panics_as_errors
from streams.outages import is_outage

R = TypeVar("R")


@dataclasses.dataclass(frozen=True, slots=True)
class BatchPart(Generic[R]):
    """One caller's part of a batch: the rows from ``start`` to before ``stop``."""

    result: R
    start: int
    stop: int

    @property
    def rows(self) -> range:
        """The caller's rows, in its own order."""
        return range(self.start, self.stop)


@dataclasses.dataclass(frozen=True, slots=True)
class _PendingCall(Generic[R]):
    events: Sequence[Any]
    future: asyncio.Future[BatchPart[R]]


class Batcher(Generic[R]):
    """Joins the requests of many callers into few calls of one function."""

    def __init__(
        self, process: Callable[[Sequence[Any]], Awaitable[R]], *, rows_max: int, batches_max: int
    ) -> None:
        """Take the function and its bounds.

        Args:
            process: Returns the result of a batch, whose rows are in the order of the requests.
            rows_max: Maximum rows of a batch; a call with more rows is a batch by itself.
            batches_max: Maximum batches in progress.
        """
        self._process = process
        self._rows_max = rows_max
        self._batches_max = batches_max
        self._pending: deque[_PendingCall[R]] = deque()
        self._in_progress: set[asyncio.Task[None]] = set()
        self._start_is_due = False

    async def submit(self, events: Sequence[Any]) -> BatchPart[R]:
        """Process decoded requests together with others; raise the error of their batch, or their own.

        May be cancelled at any time.
        """
        loop = asyncio.get_running_loop()
        call: _PendingCall[R] = _PendingCall(events, loop.create_future())
        self._pending.append(call)
        if not self._start_is_due and len(self._in_progress) < self._batches_max:
            self._start_is_due = True
            loop.call_soon(self._start)
        return await call.future

    def _start(self) -> None:
        self._start_is_due = False
        while len(self._in_progress) < self._batches_max and (batch := self._take()):
            task = asyncio.create_task(self._run(batch))
            self._in_progress.add(task)
            task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._in_progress.discard(task)
        self._start()

    def _take(self) -> list[_PendingCall[R]]:
        """Return the next batch, without cancelled calls."""
        taken: list[_PendingCall[R]] = []
        rows = 0
        while self._pending:
            call = self._pending[0]
            if taken and rows + len(call.events) > self._rows_max:
                break
            self._pending.popleft()
            if not call.future.done():
                taken.append(call)
                rows += len(call.events)
        return taken

    async def _run(self, batch: Sequence[_PendingCall[R]]) -> None:
        events = [event for call in batch for event in call.events]
        try:
            with panics_as_errors():
                result = await self._process(events)
        except asyncio.CancelledError:
            for call in batch:
                call.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # raised in each caller
            await self._fail(batch, error)
            return
        start = 0
        for call in batch:
            stop = start + len(call.events)
            if not call.future.done():
                call.future.set_result(BatchPart(result, start, stop))
            start = stop

    async def _fail(self, batch: Sequence[_PendingCall[R]], error: Exception) -> None:
        """Raise the error in the callers; if it may be of one of them, process each alone."""
        is_divided = len(batch) > 1 and not is_outage(error)
        for call in batch:
            if call.future.done():
                continue
            if is_divided:
                await self._run([call])
            else:
                call.future.set_exception(error)
