"""What every detector of changes has in common: values between 0 and 1 go in, detected changes come out."""

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
TimesMs = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class WinningBet:
    """The bet that won most since a change began: what `standing_changes` bets against."""

    winnings: tuple[float, ...]
    """Log winnings of a rank in each group of `bets.GROUP_EDGES`."""
    mean: float
    """Mean log winnings of a rank since the change began."""


@dataclasses.dataclass(frozen=True)
class DetectedChange:
    """A change of one stream; all times are event times."""

    stream: int
    detected_at_ms: int
    since_ms: int
    """Estimated beginning of the change."""
    since_from_ms: int
    """Lower end of the interval of its beginning. A detector that cannot date a change begins the interval at
    the previous change and ends it at the detection."""
    since_to_ms: int
    """Upper end of that interval."""
    value: float
    """The statistic that crossed the threshold."""
    threshold: float
    effect: float | None = None
    """Mean rank, 0 to 1, of the values since the change among earlier ones; 0.5 = no change. None if
    unknown."""
    bet: WinningBet | None = None
    """None for a detector that does not bet on ranks."""


class Detector(Protocol):
    """Watches several streams of equal length for changes.

    A detector is deterministic, its memory is bounded, and its results do not depend on how the input is
    sliced. After a change in a stream, it starts again with that stream.
    """

    judges_errors: bool
    """Whether its values are errors, 1 or 0, rather than losses or ranks."""

    def update(self, values: Values, times_ms: TimesMs) -> list[DetectedChange]:
        """Process rows and return the changes detected with them.

        Args:
            values: Values in [0, 1], shape ``(n_rows, n_streams)``.
            times_ms: The event time of each row, shape ``(n_rows,)``.
        """
        ...

    def state(self) -> bytes:
        """Return the complete state: plain numbers, no code."""
        ...

    def restore(self, state: bytes) -> None:
        """Continue from the state of a detector that was created with the same parameters."""
        ...
