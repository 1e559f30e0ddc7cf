"""The id of a request: in the logs, in a header of its answer, and in the body of an error."""

import re
import uuid
from collections.abc import Mapping

import structlog
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = b"x-request-id"
_USABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
"""Anything longer, or with what is no visible ASCII, could forge lines of a log."""
PLAIN_ERRORS = "/v2"


class RequestIds:
    """ASGI middleware: each request has an id, its own or a new one, in the logs and in its answer."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on; its answer gets the header `REQUEST_ID`."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        sent = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
        identity = sent if _USABLE_ID.fullmatch(sent) else uuid.uuid4().hex.encode()
        scope[REQUEST_ID.decode()] = identity.decode()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (REQUEST_ID, identity)]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=identity.decode()):
            await self._app(scope, receive, answer)


def error_response(
    scope: Scope, status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Say what went wrong, with the request's id; `PLAIN_ERRORS` have none, by their protocol."""
    body = {"error": message}
    if not scope["path"].startswith(PLAIN_ERRORS) and (identity := request_id(scope)):
        body["request_id"] = identity
    return JSONResponse(body, status_code=status, headers=headers)


def request_id(scope: Scope) -> str:
    """Return the id of a request; '' outside of `RequestIds`."""
    return str(scope.get(REQUEST_ID.decode(), ""))
