"""Requests that model.yaml declares: by a schedule, or by the labels that came since the last training."""

import contextlib
from collections.abc import Callable

import structlog

from services.monitoring import inference_log
from services.retraining.history import RetrainingHistory
from services.runtime.declaration import DAY_MS, HOUR_MS, ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.settings import Settings
from streams.records import RetrainingRequested, Trigger

CHECK_SECONDS = 60.0
"""Time between two checks; counting labels reads two columns of a model's outcomes."""
RETRY_HOURS = 24
"""Minimum time after a failed retraining until such a request is made again."""

_log = structlog.get_logger()

CountLabels = Callable[[ModelDeclaration, int], int]
"""Returns the number of labels of a model that count since an event time."""
TrialRefusal = Callable[[RetrainingRequested, ModelDeclaration], str | None]
"""Returns why a request must wait for a version on trial; None if it need not."""


class ScheduledRequests:
    """Makes these requests. The id of one follows from the training before it, so a crash makes no second."""

    def __init__(
        self,
        folder: DeclarationFolder,
        history: RetrainingHistory,
        count: CountLabels,
        trial_refusal: TrialRefusal,
    ) -> None:
        """Take the declarations, the earlier retrainings, what counts labels, and what knows of trials."""
        self._folder = folder
        self._history = history
        self._count = count
        self._trial_refusal = trial_refusal
        self._waits_for: dict[str, str] = {}
        """Why the request of each model waits for a version on trial."""
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
        if is_held or self._history.cooldown_refusal(request, declared):
            return None
        return None if self._waits(request, declared) else request

    def _waits(self, request: RetrainingRequested, declared: ModelDeclaration) -> bool:
        """Tell whether a request waits for a version on trial: it is made at a later check, and not lost."""
        reason = self._trial_refusal(request, declared)
        if reason is None:
            self._waits_for.pop(request.model, None)
        elif self._waits_for.get(request.model) != reason:
            self._waits_for[request.model] = reason
            _log.info("retraining.request_waits", model=request.model, trigger=request.trigger, reason=reason)
        return reason is not None

    def _cause(self, declared: ModelDeclaration, now_ms: int) -> tuple[Trigger, str] | None:
        retraining, last_ms = declared.retraining, self._history.last_trained_ms(declared.name)
        days = retraining.every_days
        if days is not None and (last_ms is None or now_ms - last_ms >= round(days * DAY_MS)):
            return "schedule", f"retraining.every_days: {days:g} days have passed since the last training"
        if retraining.after_labels is not None:
            labels = self._count(declared, last_ms or 0)
            if labels >= retraining.after_labels:
                return "labels", f"retraining.after_labels: {labels} labels since the last training"
        return None


_OUTCOMES = "SELECT count(*) FROM outcomes WHERE model = $model AND label_time_ms > $since_ms"
_SETTLED = """
    SELECT count(*) FROM predictions WHERE model = $model AND event_time_ms + $horizon_ms > $since_ms
    AND event_time_ms + $horizon_ms <= (SELECT max(label_time_ms) FROM outcomes WHERE model = $model)
"""
"""A label counts when the horizon of its prediction has passed, if ``label.absent`` is declared."""


def count_labels(settings: Settings, declared: ModelDeclaration, since_ms: int) -> int:
    """Return how many labels of a model in the archive count since an event time; 0 without a table."""
    opened = inference_log.tables(settings)
    parameters = {"model": declared.name, "since_ms": since_ms}
    query, needed = _OUTCOMES, {inference_log.OUTCOMES}
    if declared.label.absent is not None:
        query, needed = _SETTLED, {inference_log.OUTCOMES, inference_log.PREDICTIONS}
        parameters["horizon_ms"] = declared.label.horizon_ms
    if not needed <= opened.keys():
        return 0
    read = {name: opened[name] for name in needed}
    with contextlib.closing(inference_log.connect(settings, read)) as connection:
        ((count,),) = connection.execute(query, parameters).fetchall()
    return int(count)
