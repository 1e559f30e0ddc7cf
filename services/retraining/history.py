"""Earlier requests for retraining and their results, as the retraining topic lists them. Pure."""

from services.runtime import retraining_cooldown, times
from services.runtime.declaration import DAY_MS, ModelDeclaration
from services.runtime.retraining_cooldown import BY_PEOPLE, VersionTrials
from streams.records import RetrainingFinished, RetrainingRecord, RetrainingRequested, RolloutRecord


class RetrainingHistory:
    """The retrainings of all models."""

    def __init__(self) -> None:
        """Start without any."""
        self._finished: dict[str, RetrainingFinished] = {}
        self._requested: dict[str, str] = {}
        """The model of each request, by its id."""
        self._trials: dict[str, VersionTrials] = {}

    def add(self, record: RetrainingRecord) -> None:
        """Take one record, in the order of its topic."""
        self._requested[record.request_id] = record.model
        self._trials_of(record.model).note(record)
        if isinstance(record, RetrainingFinished):
            self._finished.setdefault(record.request_id, record)

    def add_rollout(self, record: RolloutRecord) -> None:
        """Take one record of a rollout, in any order."""
        self._trials_of(record.model).note(record)

    def _trials_of(self, model: str) -> VersionTrials:
        return self._trials.setdefault(model, VersionTrials())

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

    def is_open(self, request_id: str) -> bool:
        """Tell whether there was such a request, and it has no result yet."""
        return request_id in self._requested and request_id not in self._finished

    @property
    def has_open(self) -> bool:
        """Whether any request has no result yet."""
        return not self._requested.keys() <= self._finished.keys()

    def open_requests(self, model: str) -> list[str]:
        """Return the requests of a model that have no result yet, in the order of their topic."""
        return [
            request_id
            for request_id, each in self._requested.items()
            if each == model and request_id not in self._finished
        ]

    def last_trained_ms(self, model: str) -> int | None:
        """Return the time of the latest request that led to a candidate; None if none did."""
        trained = [
            each
            for each in self._finished.values()
            if each.model == model and retraining_cooldown.starts(each)
        ]
        return max((each.requested_at_ms for each in trained), default=None)

    def failures(self, model: str) -> list[int]:
        """Return the times of the requests that failed since the last training, rising."""
        since_ms = self.last_trained_ms(model) or 0
        return sorted(
            each.requested_at_ms
            for each in self._finished.values()
            if each.model == model and each.result == "failed" and each.requested_at_ms > since_ms
        )

    def trial_refusal(self, request: RetrainingRequested, declaration: ModelDeclaration) -> str | None:
        """Return why this request comes while a version is on trial, or None; add the rollouts before."""
        if request.trigger in BY_PEOPLE:
            return None
        return self._trials_of(request.model).refusal(request.requested_at_ms, declaration.rollout)

    def cooldown_refusal(self, request: RetrainingRequested, declaration: ModelDeclaration) -> str | None:
        """Return why it is too early for this request, or None: see `services.runtime.retraining_cooldown`.

        Requests that are open count in drift only: here those of a model begin one after another.
        """
        last_ms, days = self.last_trained_ms(request.model), declaration.retraining.cooldown_days
        if request.trigger in BY_PEOPLE or last_ms is None:
            return None
        if not retraining_cooldown.holds(request.requested_at_ms, [last_ms], days):
            return None
        elapsed_days = (request.requested_at_ms - last_ms) / DAY_MS
        end = times.minute(retraining_cooldown.end_ms(last_ms, days))
        return (
            f"only {elapsed_days:.1f} of {days:g} days of cooldown have passed since the last training: "
            f"possible from {end}; driftline retrain need not wait"
        )
