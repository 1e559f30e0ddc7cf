"""A process that blocks: sessions until SIGINT or SIGTERM. With an event loop: `async_process`."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from starlette.routing import BaseRoute

from services.runtime import logs
from services.runtime.kafka_outbox import StoppedError
from services.runtime.session_failures import SessionFailures
from services.runtime.settings import Settings, Token
from services.runtime.web import server
from streams import defects, garbage
from streams.shutdown import exit_within_bounds

_log = structlog.get_logger()

INTERRUPT_SECONDS_MAX = 5.0
"""Maximum time from the signal to the end of a process that is interrupted: clients only disconnect."""


class Session(Protocol):
    """The time from one connection to Kafka to its end."""

    def step(self) -> None:
        """Process one slice; return after a while without one."""

    def keep_all(self) -> None:
        """Write the last snapshots before the end."""


OpenSession = Callable[[threading.Event], contextlib.AbstractContextManager[Session]]


def run(
    service: str,
    settings: Settings,
    port: int,
    open_session: OpenSession,
    *,
    interrupt: bool = False,
    is_over: Callable[[], bool] = bool,
    detail: server.Detail = dict,
    routes: Sequence[BaseRoute] = (),
    tokens: Sequence[Token] = (),
) -> None:
    """Run until SIGINT or SIGTERM.

    Args:
        service: Its name in logs.
        settings: The log level, and the address on which health and metrics are served.
        port: The port there.
        open_session: Connects, yields the session, and disconnects.
        interrupt: Raise KeyboardInterrupt at once on a signal, in the middle of a step that takes hours;
            otherwise the step is finished and `Session.keep_all` is called.
        is_over: Called between two steps; True ends the session, and the next one begins, for example after
            the declarations have changed. The default ``bool`` returns False.
        detail: Returns further facts for the readiness, e.g. `Quarantine.detail`.
        routes: Served beside health and metrics, in the thread of the web server.
        tokens: See `server.application`.
    """
    logs.configure_logging(service, settings.log_level)
    # kafka-python reports each large fetch that it decodes as a blocked event loop: here decoding is work.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    garbage.settle()
    stopping = stop_event(interrupt=interrupt)
    process = Process(open_session, stopping, is_over)
    app = server.application(process.not_ready, routes, tokens, detail)
    with server.serve_in_thread(app, settings.host, port):
        process.run()


def stop_event(*, interrupt: bool = False) -> threading.Event:
    """Return an event that SIGINT and SIGTERM set; with ``interrupt`` they raise KeyboardInterrupt."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt if interrupt else lambda *_: stopping.set())
    return stopping


def _interrupt(*_: object) -> None:
    exit_within_bounds(seconds=INTERRUPT_SECONDS_MAX)
    raise KeyboardInterrupt


class Process:
    """Sessions, one after another."""

    def __init__(
        self, open_session: OpenSession, stopping: threading.Event, is_over: Callable[[], bool] = bool
    ) -> None:
        """Nothing connects before `run`."""
        self._open_session = open_session
        self._is_over = is_over
        self._stopping = stopping
        self._failures = SessionFailures()

    def not_ready(self) -> str | None:
        """Return why nothing is processed now, or None."""
        return self._failures.reason

    def run(self) -> None:
        """Process until the stop event is set; after each error start again from the last snapshot."""
        while not self._stopping.is_set():
            try:
                with defects.panics_as_errors():
                    self._serve()
            except StoppedError as error:
                _log.warning("session.stopped_early", reason=str(error))
            except Exception as error:  # noqa: BLE001  # a process that ends would only read the same again
                self._stopping.wait(self._failures.pause_seconds(error))
        _log.info("process.stopped")

    def _serve(self) -> None:
        with self._open_session(self._stopping) as current:
            self._failures.started()
            _log.info("session.started")
            while not self._stopping.is_set() and not self._is_over():
                current.step()
            current.keep_all()
