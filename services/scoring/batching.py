"""Adaptive batches: what waits when a batch ends is the next one, so batches grow with the load.

Nothing is ever held back for others to come: an idle model answers at once. What comes within one turn of
the event loop is together already.
"""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.scoring.inference import Scored

Answer = Callable[[Sequence[Any]], Awaitable[Scored]]


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One caller's rows within a batch: ``scored``'s rows from ``first`` to before ``behind``."""

    scored: Scored
    first: int
    behind: int

    @property
    def rows(self) -> range:
        """The caller's rows, in its own order."""
        return range(self.first, self.behind)


@dataclasses.dataclass(frozen=True, slots=True)
class _Waiting:
    events: Sequence[Any]
    future: asyncio.Future[Part]


class Batcher:
    """Joins the requests of many callers into few calls of one function."""

    def __init__(self, answer: Answer, *, rows_max: int, batches_max: int) -> None:
        """Prepare.

        Args:
            answer: Answers the rows of a batch, in order.
            rows_max: Of a batch; a caller with as many has one of its own.
            batches_max: At work at once.
        """
        self._answer = answer
        self._rows_max = rows_max
        self._batches_max = batches_max
        self._waiting: deque[_Waiting] = deque()
        self._working: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def ask(self, events: Sequence[Any]) -> Part:
        """Answer decoded requests, with others; raise what the batch raised. May be cancelled at any time."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(events, loop.create_future())
        self._waiting.append(waiting)
        if not self._is_due and len(self._working) < self._batches_max:
            self._is_due = True
            loop.call_soon(self._start)
        return await waiting.future

    def _start(self) -> None:
        self._is_due = False
        while len(self._working) < self._batches_max and (batch := self._take()):
            task = asyncio.create_task(self._work(batch))
            self._working.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._start()

    def _take(self) -> list[_Waiting]:
        """Return the next batch; those who wait no longer are left out."""
        taken: list[_Waiting] = []
        rows = 0
        while self._waiting:
            following = self._waiting[0]
            if taken and rows + len(following.events) > self._rows_max:
                break
            self._waiting.popleft()
            if not following.future.done():
                taken.append(following)
                rows += len(following.events)
        return taken

    async def _work(self, batch: Sequence[_Waiting]) -> None:
        events = [event for waiting in batch for event in waiting.events]
        try:
            scored = await self._answer(events)
        except Exception as error:  # noqa: BLE001  # it is each caller's
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        first = 0
        for waiting in batch:
            behind = first + len(waiting.events)
            if not waiting.future.done():
                waiting.future.set_result(Part(scored, first, behind))
            first = behind
