"""The drift process: one per installation. Reads predictions and labels, writes what `engine` makes of them.

Delivery, for each slice that is read:

1. feed the engine, then let it advance to the frontier;
2. write outcomes and dead letters, and wait until they are acknowledged;
3. write reports and alarms, and wait; then requests for retraining, and wait;
4. publish the watermark ``drift.<model>`` in Redis;
5. from time to time write a snapshot of the state with the offsets of its inputs, and wait.

Nothing is committed to a consumer group: the snapshot holds the offsets, so state and offsets cannot
disagree. After a crash the process goes on from the last snapshot and writes what came after it again,
with equal ids and source offsets; readers drop such repeats (`streams.codec.RepeatFilter`, ids).

Partitions are assigned by hand and a second instance would write everything twice: run one, and let
it be replaced, never doubled (Recreate in Kubernetes).
"""

import gc
import logging
import signal
import threading
from collections.abc import Mapping

import structlog
from kafka.errors import KafkaError

from services import model, telemetry, web
from services.drift import session
from services.drift.outbox import StoppedError
from services.settings import Settings

RETRY_SECONDS = 0.5

_log = structlog.get_logger()


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    settings = Settings()
    telemetry.configure_logging("drift", settings.log_level)
    # It reports each large fetch that it decodes as an event loop that blocks: here that is the work.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    _collect_rarely()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    process = Process(settings, model.monitored(model.load_all(settings.models)), stopping)
    with web.serve_in_thread(web.application(process.not_ready), settings.host, settings.drift_port):
        process.run()


def _collect_rarely() -> None:
    """Spare an eighth of the CPU: a slice's objects die by their counts, and the state holds no cycles."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class Process:
    """All models of one installation, from session to session."""

    def __init__(
        self,
        settings: Settings,
        declarations: Mapping[str, model.ModelDeclaration],
        stopping: threading.Event,
    ) -> None:
        """Take the declarations; nothing connects before `run`."""
        self._settings = settings
        self._declarations = declarations
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
            except session.MissingTopicError as error:
                self._wait(str(error))
            except KafkaError as error:
                _log.warning("drift.kafka_failed", error=repr(error))
                self._wait(f"Kafka: {error!r}")
            except StoppedError as error:
                _log.warning("drift.stopped_early", reason=str(error))
        _log.info("drift.stopped")

    def _serve(self) -> None:
        with session.opened(self._settings, self._declarations, self._stopping) as current:
            self._reason = None
            _log.info("drift.started", models=sorted(self._declarations))
            while not self._stopping.is_set():
                current.step()
            current.keep_all()

    def _wait(self, reason: str) -> None:
        self._reason = reason
        self._stopping.wait(RETRY_SECONDS)
