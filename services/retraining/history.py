"""What was asked for and what came of it, as the topics tell. Pure."""

from collections.abc import Sequence

from services.runtime.declaration import DAY_MS, ModelDeclaration
from streams.records import Arm, ModelChanged, RetrainingFinished, RetrainingRequested

Known = RetrainingRequested | RetrainingFinished | ModelChanged


class History:
    """The finished retrainings and the latest change of each model."""

    def __init__(self) -> None:
        """Start without a past."""
        self._finished: dict[str, RetrainingFinished] = {}
        self._changes: dict[str, ModelChanged] = {}

    def add(self, record: Known) -> None:
        """Take one record, in the order of its topic."""
        if isinstance(record, RetrainingFinished):
            self._finished.setdefault(record.request_id, record)
        elif isinstance(record, ModelChanged):
            self._changes[record.model] = record

    def is_finished(self, request_id: str) -> bool:
        """Tell whether a request has its result already."""
        return request_id in self._finished

    def is_published(self, request: RetrainingRequested) -> bool:
        """Tell whether the change that this request led to is on the topic already."""
        latest = self._changes.get(request.model)
        return latest is not None and latest.request_id == request.request_id

    def arms(self, model: str) -> Sequence[Arm]:
        """Return the arms that score now."""
        latest = self._changes.get(model)
        return latest.arms if latest is not None else ()

    def cooldown_refusal(self, request: RetrainingRequested, declaration: ModelDeclaration) -> str | None:
        """Return why it is too early for this request, or None.

        Measured in event time from the last request that led to a candidate, so that a replay decides the
        same. Who asks by hand, or for the first model, need not wait.
        """
        if request.trigger != "drift":
            return None
        trained = [r for r in self._finished.values() if r.model == request.model and r.version > 0]
        last_ms = max((result.requested_at_ms for result in trained), default=None)
        if last_ms is None:
            return None
        elapsed_ms = request.requested_at_ms - last_ms
        wanted_days = declaration.retraining.cooldown_days
        if elapsed_ms >= round(wanted_days * DAY_MS):  # as the drift process reckons it
            return None
        days = elapsed_ms / DAY_MS
        return f"only {days:.1f} of {wanted_days:g} days of cooldown have passed since the last training"
