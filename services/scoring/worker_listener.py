"""When a scoring process listens: at once if it is alone, and as one of several workers when it is ready."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable

from starlette.types import ASGIApp

from services.runtime.async_process import BackgroundTask
from services.runtime.settings import Settings
from services.runtime.web import server
from services.runtime.web.server import NotReady

READY_SECONDS_MAX = 60.0
"""A worker that is still not ready after this time listens anyway, so that callers learn what is missing."""
CHECK_SECONDS = 0.05
"""Time between two checks whether the models of a worker are ready."""


class WorkerListener:
    """The HTTP server of a scoring process. The other workers of its port serve until it is ready."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        not_ready: NotReady,
        *,
        parent: int | None,
        parent_now: Callable[[], int] = os.getppid,
    ) -> None:
        """Take the application and its readiness.

        Args:
            app: What is served.
            settings: The settings with host and port.
            not_ready: Why the process cannot answer yet.
            parent: The process id of the parent of several workers, with which they end; None if alone.
            parent_now: Returns the process id of the current parent.
        """
        self._app = app
        self._settings = settings
        self._not_ready = not_ready
        self._parent = parent
        self._parent_now = parent_now
        self._worker = BackgroundTask("the listener of a worker", self._listen_when_ready)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen until the block ends."""
        settings = self._settings
        if self._parent is None:
            async with server.serve_in_loop(self._app, settings.host, settings.scoring_port):
                yield
        else:
            async with self._worker.running():
                yield

    def failure(self) -> str | None:
        """Return why a worker cannot continue, None if it can."""
        if self._parent not in (None, self._parent_now()):
            return "the parent process has ended"
        return self._worker.failure()

    async def _listen_when_ready(self, stopping: asyncio.Event) -> None:
        deadline = asyncio.get_running_loop().time() + READY_SECONDS_MAX
        while self._not_ready() and asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), CHECK_SECONDS)
                return
        settings = self._settings
        async with server.serve_in_loop(self._app, settings.host, settings.scoring_port, shared=True):
            await stopping.wait()
