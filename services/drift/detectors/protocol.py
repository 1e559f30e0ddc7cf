"""What every detector is: ranks or losses between 0 and 1 in, changes out."""

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
TimesMs = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class DetectedChange:
    """One stream is not what it was."""

    stream: int
    detected_at_ms: int
    since_ms: int
    """When it is thought to have begun."""
    since_from_ms: int
    """It began hardly before this, and hardly after the next; both are the detection for those that cannot
    tell."""
    since_to_ms: int
    value: float
    """What crossed the threshold."""
    threshold: float
    effect: float | None = None
    """Where values of late stand among those known, 0 to 1; 0.5 when nothing changed."""


class Detector(Protocol):
    """Watches several streams of equal length.

    It is deterministic, its memory is bounded, and how its input is sliced changes nothing. After a
    change, that stream begins anew.
    """

    judges_errors: bool
    """Its values are errors, 1 or 0, and not amounts."""

    def update(self, values: Values, times_ms: TimesMs) -> list[DetectedChange]:
        """Take values of shape ``(n_rows, n_streams)`` in [0, 1], and the event time of each row."""
        ...

    def state(self) -> bytes:
        """Return all that it knows: plain numbers, no code."""
        ...

    def restore(self, state: bytes) -> None:
        """Go on from the state of a detector that was made in the same way."""
        ...
