"""When a retraining may be requested again: the one rule of drift, of schedules and of retraining. Pure.

A training starts a cooldown at the event time of its request. One that ended without a candidate starts none.
While a version of the model is on trial, which is the case until its rollout has ended, nothing is requested
either. People need not wait. Times are event times, so a replay decides the same.
"""

import dataclasses
from collections.abc import Iterable

from services.runtime.declaration import DAY_MS, HOUR_MS, Rollout
from streams.records import (
    RetrainingFinished,
    RetrainingRecord,
    RolloutEnded,
    RolloutRecord,
    RolloutStarted,
    RolloutStepped,
    Trigger,
)

BY_PEOPLE: frozenset[Trigger] = frozenset({"bootstrap", "manual", "http"})
"""Triggers that need not wait."""


def starts(finished: RetrainingFinished) -> bool:
    """Tell whether a retraining starts a cooldown: it has led to a candidate, good or not."""
    return finished.version > 0


def end_ms(counted_ms: int, cooldown_days: float) -> int:
    """Return the event time from which a request is possible again.

    Args:
        counted_ms: Event time of the request that started the cooldown.
        cooldown_days: ``retraining.cooldown_days`` of the model.

    >>> end_ms(86_400_000, cooldown_days=14)
    1296000000
    """
    return counted_ms + round(cooldown_days * DAY_MS)


def holds(at_ms: int, counted_ms: Iterable[int], cooldown_days: float) -> bool:
    """Tell whether a request of an event time is too early, given all that started a cooldown."""
    return any(at_ms < end_ms(each, cooldown_days) for each in counted_ms)


@dataclasses.dataclass
class VersionTrial:
    """A version that is to become the champion, if its rollout shows that it is no worse."""

    version: int
    requested_ms: int | None = None
    """Event time of the retraining request that led to it."""
    started_ms: int | None = None
    """When its rollout was taken up, which is wall time: it counts while nothing better is known."""
    first_step_ms: int | None = None
    last_step_ms: int | None = None
    ended_ms: int | None = None

    def holds(self, at_ms: int, maximum_ms: int) -> bool:
        """Tell whether the version is on trial at an event time, given the maximum time of a rollout."""
        known_ms = [each for each in (self.requested_ms, self.first_step_ms) if each is not None]
        start_ms = min(known_ms) if known_ms else self.started_ms
        if start_ms is None or (self.ended_ms is not None and self.first_step_ms is None):
            return False  # nothing was tried
        stop_ms = (self.last_step_ms or start_ms) + maximum_ms
        return start_ms <= at_ms < min(stop_ms, stop_ms if self.ended_ms is None else self.ended_ms)


class VersionTrials:
    """The versions of one model that are or were on trial. Records may come in any order, and again."""

    def __init__(self) -> None:
        """Start without any."""
        self._by_id: dict[str, VersionTrial] = {}

    def note(self, record: RetrainingRecord | RolloutRecord) -> None:
        """Note a record of the retraining topic or of the topic of rollouts."""
        match record:
            case RetrainingFinished(result="passed"):
                self._trial(record.request_id, record.version).requested_ms = record.requested_at_ms
            case RolloutStarted():
                self._trial(record.rollout_id, record.version).started_ms = record.at_ms
            case RolloutStepped():
                trial = self._trial(record.rollout_id, record.version)
                trial.first_step_ms = min(record.at_ms, trial.first_step_ms or record.at_ms)
                trial.last_step_ms = max(record.at_ms, trial.last_step_ms or record.at_ms)
            case RolloutEnded():
                self._trial(record.rollout_id, record.version).ended_ms = record.at_ms
            case _:  # a request: its rollout has not been taken up
                pass

    def refusal(self, at_ms: int, declared: Rollout) -> str | None:
        """Return why it is too early to request a retraining at an event time; None without a trial.

        A rollout that never ends, because nobody asks, no label comes or nobody approves, holds for the sum
        of ``maximum_hours`` of all steps after its last step, or after the request if it has none.
        """
        maximum_ms = round(sum(step.maximum_hours for step in declared.steps) * HOUR_MS)
        versions = [each.version for each in self._by_id.values() if each.holds(at_ms, maximum_ms)]
        if not declared.steps or not versions:
            return None
        return (
            f"version {max(versions)} is on trial: possible when its rollout has ended, or "
            f"{maximum_ms / HOUR_MS:g} hours after its last step; driftline retrain need not wait"
        )

    def _trial(self, trial_id: str, version: int) -> VersionTrial:
        return self._by_id.setdefault(trial_id, VersionTrial(version))
