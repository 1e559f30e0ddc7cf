"""A process that blocks: sessions until SIGINT or SIGTERM. With an event loop: `async_process`."""

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
from streams.schemas import SchemaRegistryUnavailableError
from streams.shutdown import exit_within_bounds

_log = structlog.get_logger()

RETRY_SECONDS = 0.5
"""Pause before the next session after an error of Kafka."""
REGISTRY_RETRY_SECONDS = 5.0
"""Pause after an error of the schema registry: each new session starts from its snapshot."""
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
    service: str, settings: Settings, port: int, open_session: OpenSession, *, interrupt: bool = False
) -> None:
    """Run until SIGINT or SIGTERM.

    Args:
        service: Its name in logs.
        settings: The log level, and the address on which health and metrics are served.
        port: The port there.
        open_session: Connects, yields the session, and disconnects.
        interrupt: Raise KeyboardInterrupt at once on a signal, in the middle of a step that takes hours;
            otherwise the step is finished and `Session.keep_all` is called.
    """
    logs.configure_logging(service, settings.log_level)
    # kafka-python reports each large fetch that it decodes as a blocked event loop: here decoding is work.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    garbage.settle()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt if interrupt else lambda *_: stopping.set())
    process = Process(open_session, stopping)
    with server.serve_in_thread(server.application(process.not_ready), settings.host, port):
        process.run()


def _interrupt(*_: object) -> None:
    exit_within_bounds(seconds=INTERRUPT_SECONDS_MAX)
    raise KeyboardInterrupt


class Process:
    """Sessions, one after another."""

    def __init__(self, open_session: OpenSession, stopping: threading.Event) -> None:
        """Nothing connects before `run`."""
        self._open_session = open_session
        self._stopping = stopping
        self._reason: str | None = "starting"

    def not_ready(self) -> str | None:
        """Return why nothing is processed now, or None."""
        return self._reason

    def run(self) -> None:
        """Process until the stop event is set; when Kafka fails, start again from the last snapshot."""
        while not self._stopping.is_set():
            try:
                self._serve()
            except MissingTopicError as error:
                self._wait(str(error))
            except KafkaError as error:
                _log.warning("session.kafka_failed", error=repr(error))
                self._wait(f"Kafka: {error!r}")
            except SchemaRegistryUnavailableError as error:
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
