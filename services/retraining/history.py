"""The results of earlier requests for retraining, as the retraining topic lists them. Pure."""

from services.runtime.declaration import DAY_MS, ModelDeclaration
from streams.records import RetrainingFinished, RetrainingRecord, RetrainingRequested


class RetrainingHistory:
    """The finished retrainings of all models."""

    def __init__(self) -> None:
        """Start without results."""
        self._finished: dict[str, RetrainingFinished] = {}

    def add(self, record: RetrainingRecord) -> None:
        """Take one record, in the order of its topic."""
        if isinstance(record, RetrainingFinished):
            self._finished.setdefault(record.request_id, record)

    def is_finished(self, request_id: str) -> bool:
        """Tell whether a request has a result."""
        return request_id in self._finished

    def cooldown_refusal(self, request: RetrainingRequested, declaration: ModelDeclaration) -> str | None:
        """Return why it is too early for this request, or None.

        The cooldown is counted in event time from the last request that led to a candidate, so that a replay
        decides the same. A request by hand and the request for the first model need not wait.
        """
        if request.trigger != "drift":
            return None
        trained = [r for r in self._finished.values() if r.model == request.model and r.version > 0]
        last_ms = max((result.requested_at_ms for result in trained), default=None)
        if last_ms is None:
            return None
        elapsed_ms = request.requested_at_ms - last_ms
        wanted_days = declaration.retraining.cooldown_days
        if elapsed_ms >= round(wanted_days * DAY_MS):  # the drift process computes it in the same way
            return None
        days = elapsed_ms / DAY_MS
        return f"only {days:.1f} of {wanted_days:g} days of cooldown have passed since the last training"
