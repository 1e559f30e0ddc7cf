"""Earlier requests for retraining and their results, as the retraining topic lists them. Pure."""

from services.runtime.declaration import DAY_MS, ModelDeclaration
from streams.records import RetrainingFinished, RetrainingRecord, RetrainingRequested

BY_PEOPLE = ("bootstrap", "manual", "http")
"""Triggers that need not wait for the cooldown."""


class RetrainingHistory:
    """The retrainings of all models."""

    def __init__(self) -> None:
        """Start without any."""
        self._finished: dict[str, RetrainingFinished] = {}
        self._requested: dict[str, str] = {}
        """The model of each request, by its id."""

    def add(self, record: RetrainingRecord) -> None:
        """Take one record, in the order of its topic."""
        self._requested[record.request_id] = record.model
        if isinstance(record, RetrainingFinished):
            self._finished.setdefault(record.request_id, record)

    def is_finished(self, request_id: str) -> bool:
        """Tell whether a request has a result."""
        return request_id in self._finished

    def is_requested(self, request_id: str) -> bool:
        """Tell whether there was such a request."""
        return request_id in self._requested

    def model_of(self, request_id: str) -> str | None:
        """Return the model of a request; None if there was no such request."""
        return self._requested.get(request_id)

    def result_of(self, request_id: str) -> RetrainingFinished | None:
        """Return the result of a request; None if it has none."""
        return self._finished.get(request_id)

    def open_requests(self, model: str) -> list[str]:
        """Return the requests of a model that have no result yet, in the order of their topic."""
        return [
            request_id
            for request_id, each in self._requested.items()
            if each == model and request_id not in self._finished
        ]

    def last_trained_ms(self, model: str) -> int | None:
        """Return the time of the latest request that led to a candidate; None if none did."""
        trained = [each for each in self._finished.values() if each.model == model and each.version > 0]
        return max((each.requested_at_ms for each in trained), default=None)

    def failures(self, model: str) -> list[int]:
        """Return the times of the requests that failed since the last training, rising."""
        since_ms = self.last_trained_ms(model) or 0
        return sorted(
            each.requested_at_ms
            for each in self._finished.values()
            if each.model == model and each.result == "failed" and each.requested_at_ms > since_ms
        )

    def cooldown_refusal(self, request: RetrainingRequested, declaration: ModelDeclaration) -> str | None:
        """Return why it is too early for this request, or None.

        The cooldown is counted in event time from the last request that led to a candidate, so that a replay
        decides the same. A failed one does not count. Requests by people need not wait.
        """
        last_ms = self.last_trained_ms(request.model)
        if request.trigger in BY_PEOPLE or last_ms is None:
            return None
        elapsed_ms = request.requested_at_ms - last_ms
        wanted_days = declaration.retraining.cooldown_days
        if elapsed_ms >= round(wanted_days * DAY_MS):  # the drift process computes it in the same way
            return None
        days = elapsed_ms / DAY_MS
        return f"only {days:.1f} of {wanted_days:g} days of cooldown have passed since the last training"
