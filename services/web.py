"""The HTTP side of every process: liveness, readiness, metrics; served in a loop or in a thread.

Also what their APIs share: who may ask, how large a body may be, and what is said of an error.
"""

import contextlib
import functools
import hashlib
import hmac
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

log = structlog.get_logger()

NotReady = Callable[[], str | None]
"""Returns None when the process is ready, else the reason why it is not."""
Detail = Callable[[], Mapping[str, object]]
"""Returns what else is worth knowing of the process's state."""
Handler = Callable[[Request], Awaitable[Response]]
OPEN_PATHS = frozenset({"/health/live", "/health/ready", "/metrics"})
"""What orchestrators and Prometheus ask without a token."""


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
            return JSONResponse({"error": str(error)}, status_code=error.status, headers=error.headers)
        except Exception:
            reference = uuid.uuid4().hex[:12]
            log.exception("request.failed", path=request.url.path, reference=reference)
            return JSONResponse({"error": f"internal error, logged as {reference}"}, status_code=500)

    return answer


async def read_body(request: Request, bytes_max: int) -> bytes:
    """Read a body; raise `RequestError` 413 as soon as it exceeds the limit."""
    chunks, size_bytes = [], 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes > bytes_max:
            raise RequestError(413, f"the body exceeds {bytes_max} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


class TokenAuthentication:
    """ASGI middleware: every path but `OPEN_PATHS` needs a bearer token of a known SHA-256 digest."""

    def __init__(self, app: ASGIApp, digests: Sequence[bytes]) -> None:
        """Let through whoever sends a token with one of these digests (32 bytes each)."""
        self._app = app
        self._digests = tuple(digests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or hand the request on."""
        if scope["type"] == "lifespan" or scope["path"] in OPEN_PATHS or self._knows(scope["headers"]):
            await self._app(scope, receive, send)
            return
        challenge = {"WWW-Authenticate": 'Bearer realm="driftline"'}
        answer = JSONResponse({"error": "a valid bearer token is needed"}, status_code=401, headers=challenge)
        await answer(scope, receive, send)

    def _knows(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        sent = [value for name, value in headers if name == b"authorization"]
        scheme, _, token = sent[0].partition(b" ") if len(sent) == 1 else (b"", b"", b"")
        digest = hashlib.sha256(token.strip()).digest()
        # All are compared, each in constant time: how long it takes tells nothing about the tokens.
        known = sum([hmac.compare_digest(digest, other) for other in self._digests])
        return scheme.lower() == b"bearer" and known > 0


def application(
    not_ready: NotReady,
    routes: Sequence[BaseRoute] = (),
    token_digests: Sequence[bytes] = (),
    detail: Detail = dict,
) -> Starlette:
    """Make the ASGI application of a process: its own routes and the three that all have.

    With digests, its own routes need a token; see `TokenAuthentication`. ``detail`` is told with readiness.
    """

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        reason = not_ready()
        if reason is None:
            return JSONResponse({"status": "ready", **detail()})
        return JSONResponse({"status": "not ready", "reason": reason, **detail()}, status_code=503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    own = [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)]
    guard = [Middleware(TokenAuthentication, digests=token_digests)] if token_digests else []
    return Starlette(routes=[*own, *routes], middleware=guard)


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
