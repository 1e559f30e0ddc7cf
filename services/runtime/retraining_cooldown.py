"""When a retraining may be requested again: the one rule of drift, of schedules and of retraining. Pure.

A training starts a cooldown at the event time of its request. One that ended without a candidate starts none.
People need not wait. Times are event times, so a replay decides the same.
"""

from collections.abc import Iterable

from services.runtime.declaration import DAY_MS
from streams.records import RetrainingFinished, Trigger

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
