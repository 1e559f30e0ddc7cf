"""When a retraining is requested, and what the request says."""

from collections.abc import Iterable, Mapping, Sequence

from services.drift.loss_alarms import ESTIMATE_DETECTOR, LossEvaluation
from services.runtime import retraining_cooldown
from services.runtime.declaration import ModelDeclaration
from services.runtime.retraining_cooldown import VersionTrials
from streams import records


class RetrainingTrigger:
    """Requests retrainings of one model, none within the cooldown or while a version is on trial.

    The rule of both: `services.runtime.retraining_cooldown`. A request of any trigger counts while it has no
    result: otherwise each window would request one more.
    """

    def __init__(self, declaration: ModelDeclaration, requested_at_ms: Iterable[int]) -> None:
        """Start with the times of earlier requests."""
        self._model = declaration.name
        self._cooldown_days = declaration.retraining.cooldown_days
        self._is_retrained = declaration.is_retrained
        self._minimum_labels = declaration.retraining.minimum_labels
        self._rollout = declaration.rollout
        self._requested_at_ms = set(requested_at_ms)
        self._trials = VersionTrials()
        self.waits_for: str | None = None
        """Why the last window with harm has requested nothing, if that is for a version on trial."""

    @property
    def times_ms(self) -> list[int]:
        """Return what `__init__` takes."""
        return sorted(self._requested_at_ms)

    def note(self, record: records.RetrainingRecord | records.RolloutRecord) -> None:
        """Note a request, which counts from now on, a result, after which it may not count, or a rollout."""
        self._trials.note(record)
        if isinstance(record, records.RetrainingRequested):
            self._requested_at_ms.add(record.requested_at_ms)
        elif isinstance(record, records.RetrainingFinished) and not retraining_cooldown.starts(record):
            self._requested_at_ms.discard(record.requested_at_ms)

    def request(
        self,
        now_ms: int,
        losses: LossEvaluation,
        active: Sequence[records.DriftAlarm],
        contributions: Sequence[records.Contribution],
        offsets: Mapping[str, list[int]],
    ) -> records.RetrainingRequested | None:
        """Return a request while a loss is worse than its limit, if cooldown, rollout and labels allow one.

        Nothing is lost: if the loss is still worse when the rollout has ended, the next window requests.
        Changed features alone request nothing. The request trains from when its cause began, if enough labels
        have come since then.
        """
        self.waits_for = None
        if losses.cause is None or not self._may_request(now_ms, losses.labels):
            return None
        self.waits_for = self._trials.refusal(now_ms, self._rollout)
        if self.waits_for is not None:
            return None
        days, requested = self._cooldown_days, self._requested_at_ms
        kept = {each for each in requested if retraining_cooldown.holds(now_ms, [each], days)}
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
        earlier = [requested for requested in self._requested_at_ms if requested < now_ms]
        return not retraining_cooldown.holds(now_ms, earlier, self._cooldown_days)
