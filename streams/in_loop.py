"""Faust's consumer of Kafka in the event loop of its app, without the thread that Faust gives it.

Faust reads in a thread with a loop of its own, so that handlers that block do not hold up heartbeats. Here no
handler blocks for long: models and files have threads of their own. What the thread costs is paid at each
fetch: two hand-overs between loops, each of which waits for Python's lock and for a core (see
docs/decisions/0019-one-loop.md).
"""

import asyncio
from collections.abc import Callable
from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from mode.utils.futures import maybe_async


class InLoopConsumer(AIOKafkaConsumerThread):
    """What Faust starts, stops and calls as its consumer's thread; all of it happens in the caller's loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the running loop as that of the thread."""
        super().__init__(*args, thread_loop=asyncio.get_running_loop(), **kwargs)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and join the group; raise what either raises."""
        self._thread_started.set()
        running = self._thread_running = self.parent_loop.create_future()
        self._serving = asyncio.create_task(self._serve(), name="consumer")
        await asyncio.wait([running, self._serving], return_when=asyncio.FIRST_COMPLETED)
        self._thread_running = None
        if self._serving.done():
            await self._serving
        await running

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function of the client, be it a coroutine or not."""
        return await maybe_async(fun(*args, **kwargs))

    async def _gather_remaining_tasks(self) -> None:
        """Leave the loop's other tasks alone: in a thread they would be the client's, here they are not."""
