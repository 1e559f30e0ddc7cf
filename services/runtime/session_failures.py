"""Sessions that fail: the reason that the readiness shows, and the pause before the next session."""

import time
from collections.abc import Callable

import structlog

from services.runtime.kafka_consumers import MissingTopicError
from streams import back_off, defects
from streams.outages import is_outage

_log = structlog.get_logger()

RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.5, 10.0
"""Pause before the next session; doubled until a session lasts for the longer of the two times."""


class SessionFailures:
    """The failures of the sessions of one process, one session after another."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start before the first session."""
        self.reason: str | None = "starting"
        """Why no session runs; None while one does."""
        self._count = 0
        self._started_seconds: float | None = None
        self._clock = clock

    def started(self) -> None:
        """Note that a session has connected."""
        self.reason = None
        self._started_seconds = self._clock()

    def pause_seconds(self, error: Exception) -> float:
        """Log the error that has ended a session; return the time to wait before the next one."""
        if is_outage(error) or isinstance(error, MissingTopicError):
            _log.warning("session.outage", error=repr(error))
            self.reason = f"{type(error).__name__}: {error}"
        else:
            _log.error("session.failed", exc_info=error)
            self.reason = defects.reason_of(error)
        if self._started_seconds is not None and self._clock() - self._started_seconds > RETRY_SECONDS_MAX:
            self._count = 0
        self._started_seconds = None
        self._count += 1
        return back_off.pause_seconds(self._count, RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
