"""Request ids: in the logs, in a header of the response, and in the body of an error."""

import os
import re
from collections.abc import Mapping

import structlog
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = b"x-request-id"
_USABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
"""Longer ids, or ids with characters other than visible ASCII, could forge log lines."""
PLAIN_ERRORS = "/v2"
"""Path prefix of the Open Inference Protocol, whose error bodies have no request id."""


class RequestIds:
    """ASGI middleware: adds the caller's request id, or a new one, to the logs and to the response."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and set the header `REQUEST_ID` of its response."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        sent = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
        request_id = sent if _USABLE_ID.fullmatch(sent) else os.urandom(16).hex().encode()
        scope[REQUEST_ID.decode()] = request_id.decode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (REQUEST_ID, request_id)]
            await send(message)

        tokens = structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            structlog.contextvars.reset_contextvars(**tokens)


def error_response(
    scope: Scope, status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error as JSON, with the request's id unless the path starts with `PLAIN_ERRORS`."""
    body = {"error": message}
    if not scope["path"].startswith(PLAIN_ERRORS) and (found := request_id_of(scope)):
        body["request_id"] = found
    return JSONResponse(body, status_code=status, headers=headers)


def request_id_of(scope: Scope) -> str:
    """Return the id of a request; '' if `RequestIds` does not wrap the application."""
    return str(scope.get(REQUEST_ID.decode(), ""))
