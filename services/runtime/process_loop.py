"""The life of a process that blocks: sessions, one after another, until SIGINT or SIGTERM."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable
from typing import Protocol

import structlog
from kafka.errors import KafkaError

from services.runtime import logs
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.kafka_outbox import StoppedError
from services.runtime.settings import Settings
from services.runtime.web import server
from streams import garbage
from streams.schemas import RegistryAwayError

_log = structlog.get_logger()


RETRY_SECONDS = 0.5


REGISTRY_RETRY_SECONDS = 5.0
"""Each time the session begins again from its snapshot."""


class Session(Protocol):
    """One connection's life."""

    def step(self) -> None:
        """Process one slice; return after a while without one."""

    def keep_all(self) -> None:
        """Take the last snapshots before the end."""


OpenSession = Callable[[threading.Event], contextlib.AbstractContextManager[Session]]


def run(service: str, settings: Settings, port: int, open_session: OpenSession) -> None:
    """Run until SIGINT or SIGTERM."""
    logs.configure_logging(service, settings.log_level)
    # It reports each large fetch that it decodes as an event loop that blocks: here that is the work.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    garbage.settle()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    process = Process(open_session, stopping)
    with server.serve_in_thread(server.application(process.not_ready), settings.host, port):
        process.run()


class Process:
    """All models of one installation, from session to session."""

    def __init__(self, open_session: OpenSession, stopping: threading.Event) -> None:
        """Nothing connects before `run`."""
        self._open_session = open_session
        self._stopping = stopping
        self._reason: str | None = "starting"

    def not_ready(self) -> str | None:
        """Tell why nothing is processed now, or None."""
        return self._reason

    def run(self) -> None:
        """Process until asked to stop; when Kafka fails, begin again from the last snapshot."""
        while not self._stopping.is_set():
            try:
                self._serve()
            except MissingTopicError as error:
                self._wait(str(error))
            except KafkaError as error:
                _log.warning("session.kafka_failed", error=repr(error))
                self._wait(f"Kafka: {error!r}")
            except RegistryAwayError as error:
                _log.warning("session.schema_registry_away", error=str(error))
                self._wait(str(error), REGISTRY_RETRY_SECONDS)
            except StoppedError as error:
                _log.warning("session.stopped_early", reason=str(error))
        _log.info("process.stopped")

    def _serve(self) -> None:
        with self._open_session(self._stopping) as current:
            self._reason = None
            _log.info("session.started")
            while not self._stopping.is_set():
                current.step()
            current.keep_all()

    def _wait(self, reason: str, seconds: float = RETRY_SECONDS) -> None:
        self._reason = reason
        self._stopping.wait(seconds)
