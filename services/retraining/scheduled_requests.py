"""Requests that model.yaml declares: by a schedule, or by the labels that came since the last training."""

import contextlib
from collections.abc import Callable

from deltalake import DeltaTable

from services.monitoring import inference_log
from services.retraining.history import RetrainingHistory
from services.runtime.declaration import DAY_MS, HOUR_MS, ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.settings import Settings
from streams.records import RetrainingRequested, Trigger

CHECK_SECONDS = 60.0
"""Time between two checks; counting labels reads two columns of a model's outcomes."""
RETRY_HOURS = 24
"""After a retraining that failed, such a request is made again so long after it."""

CountLabels = Callable[[str, int], int]
"""Returns the number of outcomes of a model whose labels came after an event time."""


class ScheduledRequests:
    """Makes these requests. The id of one follows from the training before it, so a crash makes no second."""

    def __init__(self, folder: DeclarationFolder, history: RetrainingHistory, count: CountLabels) -> None:
        """Take the declarations, the earlier retrainings, and what counts labels."""
        self._folder = folder
        self._history = history
        self._count = count
        self._checked_seconds = float("-inf")

    def due(self, now_seconds: float, now_ms: int) -> list[RetrainingRequested]:
        """Return the requests to write now; none within `CHECK_SECONDS` of the last check."""
        if now_seconds - self._checked_seconds < CHECK_SECONDS:
            return []
        self._checked_seconds = now_seconds
        found = [self._of_model(declared, now_ms) for declared in self._folder.valid.values()]
        return [each for each in found if each is not None]

    def _of_model(self, declared: ModelDeclaration, now_ms: int) -> RetrainingRequested | None:
        cause = self._cause(declared, now_ms) if declared.is_retrained else None
        if cause is None:
            return None
        trigger, reason = cause
        last_ms, failures = (
            self._history.last_trained_ms(declared.name),
            self._history.failures(declared.name),
        )
        if failures and now_ms - failures[-1] < RETRY_HOURS * HOUR_MS:
            return None
        request = RetrainingRequested(
            request_id=f"{declared.name}-{trigger}-{last_ms or 0}-{len(failures)}",
            model=declared.name,
            trigger=trigger,
            requested_at_ms=now_ms,
            reason=reason,
        )
        is_held = self._history.is_requested(request.request_id) or bool(
            self._history.open_requests(declared.name)
        )
        return None if is_held or self._history.cooldown_refusal(request, declared) else request

    def _cause(self, declared: ModelDeclaration, now_ms: int) -> tuple[Trigger, str] | None:
        retraining, last_ms = declared.retraining, self._history.last_trained_ms(declared.name)
        days = retraining.every_days
        if days is not None and (last_ms is None or now_ms - last_ms >= round(days * DAY_MS)):
            return "schedule", f"retraining.every_days: {days:g} days have passed since the last training"
        if retraining.after_labels is not None:
            labels = self._count(declared.name, last_ms or 0)
            if labels >= retraining.after_labels:
                return "labels", f"retraining.after_labels: {labels} labels since the last training"
        return None


def count_labels(settings: Settings, model: str, since_ms: int) -> int:
    """Return how many archived outcomes of a model have labels after an event time; 0 without a table."""
    path = inference_log.path(settings, inference_log.OUTCOMES)
    if not DeltaTable.is_deltatable(path):
        return 0
    opened = {inference_log.OUTCOMES: DeltaTable(path)}
    with contextlib.closing(inference_log.connect(settings, opened)) as connection:
        ((count,),) = connection.execute(
            "SELECT count(*) FROM outcomes WHERE model = ? AND label_time_ms > ?", [model, since_ms]
        ).fetchall()
    return int(count)
