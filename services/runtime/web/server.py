"""The HTTP server of every process: liveness, readiness, metrics; runs in an event loop or in a thread.

Also what all HTTP APIs share: authentication, the bound on the size of a body, and the form of an error.
"""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.runtime.exposition import exposition
from services.runtime.settings import Token
from services.runtime.web import authentication
from services.runtime.web.connections import BoundedProtocol
from services.runtime.web.rate_limits import Limit
from services.runtime.web.request_ids import RequestIds, error_response, request_id_of

log = structlog.get_logger()

NotReady = Callable[[], str | None]
"""Returns None when the process is ready, else the reason why it is not."""
Detail = Callable[[], Mapping[str, object]]
"""Returns further facts on the state of the process, shown with its readiness."""
Handler = Callable[[Request], Awaitable[Response]]
REQUESTS_MAX = 1024
"""Maximum requests in progress, whatever their path.

Above the limits of the models; with bodies of 4 MiB they take 4 GiB at worst.
"""
BODY_SECONDS_MAX = 30.0
"""Maximum time to receive the body of a request."""
_DEFAULT_TYPES = ("", "application/x-www-form-urlencoded")
"""Content types of clients that set none; browsers send them with the header Origin."""
DRAIN_SECONDS_MAX = 4.0
"""Maximum time for requests in progress at shutdown; the rest of the ten seconds is for Kafka."""


class RequestError(Exception):
    """A request that cannot be served; the message is sent to the client."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Take the HTTP status, the message for the client, and headers of the response."""
        super().__init__(message)
        self.status = status
        self.headers = headers


def handle_errors(handle: Handler) -> Handler:
    """Turn a `RequestError` into its status, and any other error into a 500 that only names the log entry."""

    @functools.wraps(handle)
    async def respond(request: Request) -> Response:
        try:
            return await handle(request)
        except RequestError as error:
            return error_response(request.scope, error.status, str(error), error.headers)
        except ClientDisconnect:  # nobody gets the response
            return error_response(request.scope, 400, "the client has disconnected")
        except Exception:
            reference = request_id_of(request.scope)
            log.exception("request.failed", path=request.url.path, request_id=reference)
            return error_response(request.scope, 500, f"internal error, logged as {reference}")

    _error_free.add(respond)
    return respond


_error_free: "weakref.WeakSet[Handler]" = weakref.WeakSet()
"""The handlers returned by `handle_errors`: they raise nothing."""


class _DirectDispatch:
    """Calls handlers that raise nothing without Starlette's layers, which cost as much as a fast response."""

    def __init__(self, routes: Sequence[BaseRoute], fallback: ASGIApp) -> None:
        direct = [route for route in routes if isinstance(route, Route) and route.endpoint in _error_free]
        self._routes = [(route.path_regex.match, route.methods or (), route.endpoint) for route in direct]
        self._fallback = fallback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for match, methods, handle in self._routes:
                if (found := match(scope["path"])) and scope["method"] in methods:
                    scope["path_params"] = found.groupdict()  # strings: no path of ours converts a parameter
                    response = await handle(Request(scope, receive))
                    await response(scope, receive, send)
                    return
        await self._fallback(scope, receive, send)


async def read_body(request: Request, bytes_max: int) -> bytes:
    """Return the body of a request, which is JSON.

    Raises `RequestError` 415 for another content type, 413 as soon as the body exceeds the limit, 408 after
    `BODY_SECONDS_MAX`; `ClientDisconnect` if the client disconnects before the end.
    """
    _check_content_type(request)
    body = _Body(bytes_max)
    message = _arrived(request)
    if message is not None and body.add(message):  # as mostly: it came with the headers, and needs no timer
        return body.read()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            while not body.add(await request.receive()):
                pass
    except TimeoutError as error:
        raise RequestError(408, f"the request body did not arrive within {BODY_SECONDS_MAX:g} s") from error
    return body.read()


class _Body:
    """The parts of a request body that have arrived."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._size_bytes = 0
        self._chunks: list[bytes] = []

    def add(self, message: Message) -> bool:
        """Take the next message; return whether the body is complete. Raises as `read_body`."""
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        self._size_bytes += len(chunk)
        if self._size_bytes > self._bytes_max:
            raise RequestError(413, f"the request body exceeds the limit of {self._bytes_max} bytes")
        self._chunks.append(chunk)
        return not message.get("more_body", False)

    def read(self) -> bytes:
        return b"".join(self._chunks)


def _check_content_type(request: Request) -> None:
    """Refuse what a web page may send to this server without a permission: any type but JSON.

    Programs that are no browser may leave the type out, or send the default type of curl.
    """
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        return
    if media_type in _DEFAULT_TYPES and "origin" not in request.headers:
        return
    raise RequestError(415, f"the content type must be application/json, got {content_type or 'none'!r}")


def has_gone(request: Request) -> bool:
    """Return whether the caller of a request whose body was read has disconnected; does not wait."""
    message = _arrived(request)
    return message is not None and message["type"] == "http.disconnect"


def _arrived(request: Request) -> Message | None:
    """Return the next message of a request if it is there, else None; does not wait."""
    received = request.receive().__await__()
    try:
        next(received)
    except StopIteration as stopped:
        message: Message = stopped.value
        return message
    finally:
        received.close()
    return None


class ConcurrencyLimit:
    """ASGI middleware that bounds the requests in progress and rejects new ones during shutdown."""

    def __init__(self, requests_max: int = REQUESTS_MAX) -> None:
        """Take the bound; requests are admitted until `draining` ends."""
        self.is_closed = False
        self._in_progress = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._requests_max = requests_max

    @contextlib.asynccontextmanager
    async def draining(self) -> AsyncIterator[None]:
        """Admit requests until the block ends.

        Then reject new ones and wait up to `DRAIN_SECONDS_MAX` for those in progress.
        """
        try:
            yield
        finally:
            self.is_closed = True
            try:
                await asyncio.wait_for(self._idle.wait(), DRAIN_SECONDS_MAX)
            except TimeoutError:
                log.warning("requests.abandoned", count=self._in_progress)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return an application with this limit. The paths that orchestrators request are always admitted."""

        async def limited(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan" or scope["path"] in authentication.OPEN_PATHS:
                await app(scope, receive, send)
            elif self.is_closed or self._in_progress >= self._requests_max:
                await self._rejection(scope)(scope, receive, send)
            else:
                self._in_progress += 1
                self._idle.clear()
                try:
                    await app(scope, receive, send)
                finally:
                    self._in_progress -= 1
                    if not self._in_progress:
                        self._idle.set()

        return limited

    def _rejection(self, scope: Scope) -> Response:
        if self.is_closed:
            # A client that connects again reaches another process; on a kept-alive connection it never would.
            return error_response(scope, 503, "the process is shutting down", {"Connection": "close"})
        message = f"{self._requests_max} requests are in progress, which is the limit; retry"
        return error_response(scope, 503, message, {"Retry-After": "1"})


def application(
    not_ready: NotReady,
    routes: Sequence[BaseRoute] = (),
    tokens: Sequence[Token] = (),
    detail: Detail = dict,
    *,
    limit: Limit | None = None,
    concurrency: ConcurrencyLimit | None = None,
) -> ASGIApp:
    """Return the ASGI application of a process: its routes and the three that all processes have.

    Args:
        not_ready: Called for the readiness.
        routes: The routes of this process.
        tokens: If there are any, ``routes`` require one of them; see `authentication.TokenAuth`.
        detail: Called for further facts in the readiness.
        limit: Rate limit of each caller.
        concurrency: Bound on the requests in progress; by default one of `REQUESTS_MAX`.
    """

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        reason = not_ready()
        if reason is None:
            return JSONResponse({"status": "ready", **detail()})
        return JSONResponse({"status": "not ready", "reason": reason, **detail()}, status_code=503)

    async def metrics(_: Request) -> Response:
        return Response(exposition(), media_type=CONTENT_TYPE_LATEST)

    common = [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)]
    starlette = Starlette(routes=[*common, *routes], exception_handlers={HTTPException: _http_error})
    authenticated = authentication.TokenAuth(_DirectDispatch(routes, starlette), tokens, limit)
    return RequestIds((concurrency or ConcurrencyLimit()).wrap(authenticated))


async def _http_error(request: Request, error: Exception) -> Response:
    """Return what Starlette itself rejects, an unknown path or method, in the form of our errors."""
    assert isinstance(error, HTTPException)
    return error_response(request.scope, error.status_code, error.detail, error.headers)


def _server(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedProtocol,
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
    """Serve in a thread, beside a blocking main loop, until the block ends."""
    server = _server(app, host, port)

    def run() -> None:
        try:
            server.run()
        finally:  # uvicorn ends with SystemExit if it cannot listen
            _end_process_without(server)

    thread = threading.Thread(target=run, name="web", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)


@contextlib.asynccontextmanager
async def serve_in_loop(app: ASGIApp, host: str, port: int, *, shared: bool = False) -> AsyncIterator[None]:
    """Serve in the running event loop until the block ends.

    With ``shared``, other processes may listen on the same port.
    """
    server = _server(app, host, port)
    sockets = [_shared_socket(host, port)] if shared else None
    task = asyncio.create_task(server._serve(sockets))  # noqa: SLF001  # serve() would install signal handlers
    task.add_done_callback(functools.partial(_end_without_task, server))
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, timeout=5)


def _end_without_task(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    is_ending = task.cancelled() or isinstance(
        task.exception(), SystemExit
    )  # asyncio raises the latter itself
    if not is_ending:
        _end_process_without(server)


def _end_process_without(server: uvicorn.Server) -> None:
    """Stop this process if its HTTP server has ended by itself: without it nobody sees its state."""
    if not server.should_exit:
        log.critical("web.ended", host=server.config.host, port=server.config.port)
        os.kill(os.getpid(), signal.SIGTERM)


def _shared_socket(host: str, port: int) -> socket.socket:
    """Bind a port that other processes listen on as well: the kernel divides the connections among them."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((host, port))
    return bound
