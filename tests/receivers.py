"""Real receivers of alerts: an HTTP server and an SMTP server, each in a thread, that keep what they get."""

import contextlib
import email
import email.policy
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from aiosmtpd.controller import Controller


class HttpReceiver:
    """Takes JSON by POST. ``answer`` decides the status, and may wait."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        """By lower-case name."""
        self.paths: list[str] = []
        self.answer: Callable[[int], int] = lambda _: 200
        """From the number of the request, counted from 1, to a status."""
        receiver, lock = self, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    receiver.bodies.append(json.loads(body))
                    receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                    receiver.paths.append(self.path)
                    number = len(receiver.bodies)
                status = receiver.answer(number)
                with contextlib.suppress(OSError):  # who asked may be gone by now
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Mailbox:
    """Keeps each mail."""

    def __init__(self) -> None:
        self.mails: list[email.message.EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@contextlib.contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    """Listen until the block ends."""
    receiver = HttpReceiver()
    try:
        yield receiver
    finally:
        receiver.close()


@contextlib.contextmanager
def mail_receiver() -> Iterator[tuple[Mailbox, int]]:
    """Yield a mailbox and the port of its SMTP server."""
    from services.operations.local_servers import ports

    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=ports.free_port())
    controller.start()
    try:
        yield mailbox, controller.port
    finally:
        controller.stop()
