"""When a retraining is requested, and what the request says."""

from collections.abc import Iterable, Mapping, Sequence

from services.drift.loss_alarms import ESTIMATE_DETECTOR, LossEvaluation
from services.runtime.declaration import DAY_MS, ModelDeclaration
from streams import records


class RetrainingTrigger:
    """Requests retrainings of one model, none within the cooldown after a request of any origin."""

    def __init__(self, declaration: ModelDeclaration, requested_at_ms: Iterable[int]) -> None:
        """Start with the times of earlier requests."""
        self._model = declaration.name
        self._cooldown_ms = round(declaration.retraining.cooldown_days * DAY_MS)
        self._is_retrained = declaration.is_retrained
        self._minimum_labels = declaration.retraining.minimum_labels
        self._requested_at_ms = set(requested_at_ms)

    @property
    def times_ms(self) -> list[int]:
        """Return what `__init__` takes."""
        return sorted(self._requested_at_ms)

    def note(self, record: records.RetrainingRecord) -> None:
        """Note a request, which starts the cooldown, or a result: without a version nothing was trained."""
        if isinstance(record, records.RetrainingRequested):
            self._requested_at_ms.add(record.requested_at_ms)
        elif not record.version:
            self._requested_at_ms.discard(record.requested_at_ms)

    def request(
        self,
        now_ms: int,
        losses: LossEvaluation,
        active: Sequence[records.DriftAlarm],
        contributions: Sequence[records.Contribution],
        offsets: Mapping[str, list[int]],
    ) -> records.RetrainingRequested | None:
        """Return a request while a loss is worse than its limit, if cooldown and labels allow one.

        Changed features alone request nothing. The request trains from when its cause began, if enough labels
        have come since then.
        """
        if losses.cause is None or not self._may_request(now_ms, losses.labels):
            return None
        kept = {requested for requested in self._requested_at_ms if requested > now_ms - self._cooldown_ms}
        self._requested_at_ms = kept | {now_ms}
        cause = losses.cause
        return records.RetrainingRequested(
            request_id=f"{self._model}-{now_ms}",
            model=self._model,
            trigger="drift",
            requested_at_ms=now_ms,
            reason=cause.message,
            evidence=list(active),
            offsets=dict(offsets),
            since_ms=cause.since_ms,
            train_from_ms=cause.since_ms if losses.labels_since >= self._minimum_labels else None,
            train_to_ms=now_ms,
            basis="estimate" if cause.detector == ESTIMATE_DETECTOR else "labels",
            contributions=list(contributions),
        )

    def _may_request(self, now_ms: int, labels: int) -> bool:
        """Tell whether cooldown and labels allow a request. Later ones, known in a replay, do not count."""
        if not self._is_retrained or labels < self._minimum_labels:
            return False
        return not any(now_ms - self._cooldown_ms < requested < now_ms for requested in self._requested_at_ms)
