"""When a retraining may be asked for, and what the request says."""

from collections.abc import Iterable, Mapping, Sequence

from services.runtime.declaration import DAY_MS, ModelDeclaration
from streams import records


class Requests:
    """The requests for one model, whoever made them."""

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

    def learn(self, requested_at_ms: int) -> None:
        """Learn of a request: it starts the cooldown."""
        self._requested_at_ms.add(requested_at_ms)

    def may_ask(self, now_ms: int, labels: int) -> bool:
        """Tell whether cooldown and labels allow it. Later requests, which a replay sees, do not count."""
        if not self._is_retrained or labels < self._minimum_labels:
            return False
        return not any(now_ms - self._cooldown_ms < asked < now_ms for asked in self._requested_at_ms)

    def make(
        self,
        now_ms: int,
        evidence: Sequence[records.DriftAlarm],
        cause: records.DriftAlarm,
        labels_since: int,
        offsets: Mapping[str, list[int]],
    ) -> records.RetrainingRequested:
        """Make a request. The cause tells since when; labels since then may be enough to train on."""
        kept = {asked for asked in self._requested_at_ms if asked > now_ms - self._cooldown_ms}
        self._requested_at_ms = kept | {now_ms}
        return records.RetrainingRequested(
            request_id=f"{self._model}-{now_ms}",
            model=self._model,
            trigger="drift",
            requested_at_ms=now_ms,
            reason=evidence[0].message if evidence else cause.message,
            evidence=list(evidence),
            offsets=dict(offsets),
            since_ms=cause.since_ms,
            train_from_ms=cause.since_ms if labels_since >= self._minimum_labels else None,
            train_to_ms=now_ms,
            basis="estimate" if cause.detector == ESTIMATE else "labels",
        )


ESTIMATE = "estimate"
"""The detector of harm that is expected, before the labels are there."""
