"""Connections of the HTTP servers: their number is bounded, and a client must send its headers in time.

uvicorn has no limit for either, so connections that never finish their headers would be free.
"""

import asyncio
from typing import cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger()

CONNECTIONS_MAX = 4096
"""Maximum open connections; above the requests in progress, because many clients keep idle ones."""
HEADER_SECONDS_MAX = 10.0
"""Maximum time from the connection, or the first byte of a further request, to the end of the headers."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with both limits; a connection beyond them is closed without a response."""

    _deadline: asyncio.TimerHandle | None = None
    _is_in_headers = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close the connection at once if there are too many."""
        super().connection_made(cast("asyncio.Transport", transport))
        if len(self.connections) > CONNECTIONS_MAX:
            log.warning("connection.refused", connections_max=CONNECTIONS_MAX, client=self.client)
            transport.close()
            return
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Wait for headers that are not complete yet; a timer for each request would cost too much."""
        super().data_received(data)
        if self._is_in_headers:
            self._await_headers()

    def on_message_begin(self) -> None:
        """Begin a request, which may be a further one of this connection."""
        super().on_message_begin()
        self._is_in_headers = True

    def on_headers_complete(self) -> None:
        """Stop waiting; the body has its own limit (`services.runtime.web.server.BODY_SECONDS_MAX`)."""
        self._is_in_headers = False
        self._stop_waiting()
        super().on_headers_complete()

    def _await_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS_MAX, self._close_late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            log.info("connection.without_headers", client=self.client)
            self.transport.close()
