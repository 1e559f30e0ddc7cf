"""The HTTP side of every process: liveness, readiness, metrics; served in a loop or in a thread.

Also what their APIs share: who may ask, how large a body may be, and what is said of an error.
"""

import asyncio
import contextlib
import functools
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.runtime import metrics
from services.runtime.settings import Token
from services.runtime.web import authentication
from services.runtime.web.rate_limits import Limit
from services.runtime.web.request_ids import RequestIds, error_response, request_id

log = structlog.get_logger()

NotReady = Callable[[], str | None]
"""Returns None when the process is ready, else the reason why it is not."""
Detail = Callable[[], Mapping[str, object]]
"""Returns what else is worth knowing of the process's state."""
Handler = Callable[[Request], Awaitable[Response]]
REQUESTS_MAX = 1024
"""At work at once, whatever they ask for: above the limits of the models, and 4 GiB of bodies at worst."""
BODY_SECONDS_MAX = 30.0
DRAIN_SECONDS_MAX = 4.0
"""For requests at work when a process stops; the rest of the ten seconds is for Kafka."""


class RequestError(Exception):
    """A request that gets no answer; the message goes to the client."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Keep the HTTP status, what to say, and headers to send with it."""
        super().__init__(message)
        self.status = status
        self.headers = headers


def answering(handle: Handler) -> Handler:
    """Answer a `RequestError` with its status, and a defect with a 500 that only says where to look."""

    @functools.wraps(handle)
    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except RequestError as error:
            return error_response(request.scope, error.status, str(error), error.headers)
        except Exception:
            reference = request_id(request.scope)
            log.exception("request.failed", path=request.url.path, request_id=reference)
            return error_response(request.scope, 500, f"internal error, logged as {reference}")

    _answering.add(answer)
    return answer


_answering: "weakref.WeakSet[Handler]" = weakref.WeakSet()
"""What `answering` has made: handlers that raise nothing."""


class _Direct:
    """Calls handlers that raise nothing, past Starlette's layers, which cost as much as a quick answer."""

    def __init__(self, routes: Sequence[BaseRoute], otherwise: ASGIApp) -> None:
        found = [route for route in routes if isinstance(route, Route) and route.endpoint in _answering]
        self._routes = [(route.path_regex.match, route.methods or (), route.endpoint) for route in found]
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for match, methods, handle in self._routes:
                if (found := match(scope["path"])) and scope["method"] in methods:
                    scope["path_params"] = found.groupdict()  # texts, as no path of ours converts any
                    response = await handle(Request(scope, receive))
                    await response(scope, receive, send)
                    return
        await self._otherwise(scope, receive, send)


async def read_body(request: Request, bytes_max: int) -> bytes:
    """Read a body; raise `RequestError` 413 as soon as it exceeds the limit, 408 when it comes too slowly."""
    chunks, size_bytes = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.stream():
                size_bytes += len(chunk)
                if size_bytes > bytes_max:
                    raise RequestError(413, f"the body exceeds {bytes_max} bytes")
                chunks.append(chunk)
    except TimeoutError as error:
        raise RequestError(408, f"the body took more than {BODY_SECONDS_MAX:g} s") from error
    return b"".join(chunks)


class Door:
    """ASGI middleware that bounds the requests at work, and lets none in once the process stops."""

    def __init__(self, requests_max: int = REQUESTS_MAX) -> None:
        """Be open."""
        self.closed = False
        self._at_work = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._requests_max = requests_max

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be open until the block ends; then wait for the requests at work, within `DRAIN_SECONDS_MAX`."""
        try:
            yield
        finally:
            self.closed = True
            try:
                await asyncio.wait_for(self._idle.wait(), DRAIN_SECONDS_MAX)
            except TimeoutError:
                log.warning("requests.abandoned", count=self._at_work)

    def before(self, app: ASGIApp) -> ASGIApp:
        """Put the door before an application. What orchestrators ask is always let in."""

        async def enter(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan" or scope["path"] in authentication.OPEN_PATHS:
                await app(scope, receive, send)
            elif self.closed or self._at_work >= self._requests_max:
                # Closed connections go to another process, which a kept-alive one never would.
                headers = {"Connection": "close"} if self.closed else {"Retry-After": "1"}
                what = "the process is stopping" if self.closed else "too many requests at once, try again"
                await error_response(scope, 503, what, headers)(scope, receive, send)
            else:
                self._at_work += 1
                self._idle.clear()
                try:
                    await app(scope, receive, send)
                finally:
                    self._at_work -= 1
                    if not self._at_work:
                        self._idle.set()

        return enter


def application(
    not_ready: NotReady,
    routes: Sequence[BaseRoute] = (),
    tokens: Sequence[Token] = (),
    detail: Detail = dict,
    *,
    limit: Limit | None = None,
    door: Door | None = None,
) -> ASGIApp:
    """Make the ASGI application of a process: its own routes and the three that all have.

    With tokens, its own routes need one of them, and keep to the limit; see `authentication.Guard`.
    ``detail`` is told with readiness.
    """

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        reason = not_ready()
        if reason is None:
            return JSONResponse({"status": "ready", **detail()})
        return JSONResponse({"status": "not ready", "reason": reason, **detail()}, status_code=503)

    async def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    own = [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", exposition)]
    all_routes = Starlette(routes=[*own, *routes], exception_handlers={HTTPException: _http_error})
    guarded = authentication.Guard(_Direct(routes, all_routes), tokens, limit)
    return RequestIds((door or Door()).before(guarded))


async def _http_error(request: Request, error: Exception) -> Response:
    """Say in our own form what Starlette itself refuses: an unknown path or method."""
    assert isinstance(error, HTTPException)
    return error_response(request.scope, error.status_code, error.detail, error.headers)


def _server(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def serve_in_thread(app: ASGIApp, host: str, port: int) -> Iterator[None]:
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
async def serve_in_loop(app: ASGIApp, host: str, port: int, *, shared: bool = False) -> AsyncIterator[None]:
    """Serve within the running event loop, until the block ends; ``shared``: beside others on the port."""
    server = _server(app, host, port)
    sockets = [_shared_socket(host, port)] if shared else None
    task = asyncio.create_task(server._serve(sockets))  # noqa: SLF001  # serve() would take the signals over
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, timeout=5)


def _shared_socket(host: str, port: int) -> socket.socket:
    """Bind a port that other processes listen on as well: the kernel divides the connections among them."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((host, port))
    return bound
