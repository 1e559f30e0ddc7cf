"""Which of several labels of one prediction counts, in the join and in the answers to feedback. Pure.

The latest by event time counts, of two of one time the later in order. One with the value that counts already
changes nothing but the time from which another value is later.
"""

from typing import Literal, NamedTuple

Effect = Literal["first", "repeats", "superseded", "corrects"]
"""What a label does: it is the first, has the value that counts, is dated before one with another value, or
replaces the value."""


class KnownLabel(NamedTuple):
    """The label of a prediction that counts so far."""

    value: float
    latest_ms: int | None
    """The latest time of a label with this value; None if it is unknown: every other one is later."""


def effect_of(value: float, time_ms: int, known: KnownLabel | None) -> Effect:
    """Return what a label does, after the one that is known.

    >>> effect_of(1.0, 5, KnownLabel(0.0, latest_ms=5))
    'corrects'
    """
    if known is None:
        return "first"
    if value == known.value:
        return "repeats"
    if known.latest_ms is not None and time_ms < known.latest_ms:
        return "superseded"
    return "corrects"


def counting(value: float, time_ms: int, known: KnownLabel | None) -> KnownLabel:
    """Return the label that counts after another one.

    >>> counting(1.0, 3, KnownLabel(1.0, latest_ms=5))
    KnownLabel(value=1.0, latest_ms=5)
    """
    effect = effect_of(value, time_ms, known)
    if known is None or effect == "corrects":
        return KnownLabel(value, time_ms)
    if effect == "superseded" or known.latest_ms is None:
        return known
    return KnownLabel(value, max(time_ms, known.latest_ms))
