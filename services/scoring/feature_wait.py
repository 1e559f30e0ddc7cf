"""How long requests from Kafka wait for their features, and what is shown and counted of it."""

import time
from collections.abc import Callable

import structlog

from services.runtime import metrics
from services.runtime.declaration import Features
from services.scoring.request_features import RequestFeatures

SHOWN_SECONDS = 1.0
"""Requests that wait for less are not shown as waiting: a few milliseconds are usual in live traffic."""

_log = structlog.get_logger()


class FeatureWait:
    """The declared wait of one model: ``features.wait_seconds`` and ``features.after_wait``.

    The wait of a request has an end, also when the traffic of its features pauses: the watermark then stays
    before the request, although nothing is missing.
    """

    def __init__(
        self,
        model: str,
        declared: Features,
        features: RequestFeatures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the name of the model and its section ``features``; only differences of the clock count."""
        self.is_declared = declared.wait_seconds > 0
        self.refuses_late = declared.after_wait == "dead_letter"
        self.waiting = 0
        """Requests that have waited for longer than `SHOWN_SECONDS`."""
        self._model = model
        self._seconds = declared.wait_seconds
        self._features = features
        self._clock = clock
        self._gauge = metrics.REQUESTS_WAITING.labels(model)
        self._late = metrics.FEATURES_LATE.labels(model, declared.after_wait)
        self._is_late = False

    @property
    def reason(self) -> str:
        """Why a request that waited in vain is a dead letter."""
        return (
            f"the features did not reach the request's event time within {self._seconds:g} s "
            "(features.wait_seconds); check that the features process runs and that its source topics get "
            "records, then replay the request"
        )

    def begin(self) -> float:
        """Return when the wait of requests that begins now ends, by the clock."""
        return self._clock() + self._seconds

    async def until(self, event_time_ms: int, deadline: float, requests: int) -> bool:
        """Wait until the features have passed an event time; return False at the deadline."""
        left_seconds = max(deadline - self._clock(), 0.0)
        if await self._features.wait_for(event_time_ms, min(left_seconds, SHOWN_SECONDS)):
            return True
        self._show(requests)
        try:
            return await self._features.wait_for(event_time_ms, max(deadline - self._clock(), 0.0))
        finally:
            self._show(-requests)

    def note(self, late: int) -> None:
        """Count the requests of a slice whose features were late; log the first and the last of them."""
        if late:
            self._late.inc(late)
        if late and not self._is_late:
            _log.warning("scoring.features_late", model=self._model, requests=late, reason=self.reason)
        elif self._is_late and not late:
            _log.info("scoring.features_in_time", model=self._model)
        self._is_late = late > 0

    def _show(self, requests: int) -> None:
        self.waiting += requests
        self._gauge.set(self.waiting)
