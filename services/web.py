"""The HTTP side of every process: liveness, readiness, metrics; served in a loop or in a thread."""

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

NotReady = Callable[[], str | None]
"""Returns None when the process is ready, else the reason why it is not."""


def application(not_ready: NotReady, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Make the ASGI application of a process: its own routes and the three that all have."""

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        reason = not_ready()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    own = [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)]
    return Starlette(routes=[*own, *routes])


def _server(app: Starlette, host: str, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def serve_in_thread(app: Starlette, host: str, port: int) -> Iterator[None]:
    """Serve beside a blocking main loop, until the block ends."""
    server = _server(app, host, port)
    thread = threading.Thread(target=server.run, name="web", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)


@contextlib.asynccontextmanager
async def serve_in_loop(app: Starlette, host: str, port: int) -> AsyncIterator[None]:
    """Serve within the running event loop, until the block ends."""
    import asyncio

    server = _server(app, host, port)
    task = asyncio.create_task(server._serve())  # noqa: SLF001  # serve() would take the signals over
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, timeout=5)
