"""How many of the labels that will come have come by an age. Pure.

Early labels are not like all labels: a flight that has arrived is more likely on time. So the performance of
the predictions of one stretch of time, a cohort, is known only when nearly all of its labels are. How
long that takes is learned from cohorts whose label horizon has passed: of those alone every delay is known.
"""

import bisect
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DELAY_CELLS = 64
_CELLS_TO_HALF = 4
"""Cells end at the horizon times 2 to the power of -k / 4: from the horizon down to a 55,000th of it."""
LABELS_MIN = 100
"""Fewer delays tell nothing: a cohort is then mature when its horizon has passed."""
LABELS_MAX = 100_000
"""Beyond this all counts are halved, so that delays that change are noticed."""

Counts = npt.NDArray[np.int64]


class LabelDelays:
    """The delays of labels, in cells that end at fixed shares of the horizon."""

    def __init__(self, horizon_ms: int, counts: Sequence[int] = ()) -> None:
        """Start with nothing known, or from the counts of a snapshot."""
        ends = [horizon_ms * 2 ** (-cell / _CELLS_TO_HALF) for cell in reversed(range(DELAY_CELLS))]
        self._ends_ms = [round(end) for end in ends]
        self.counts: Counts = np.array(list(counts) or [0] * DELAY_CELLS, dtype=np.int64)

    def cell_of(self, delay_ms: int) -> int:
        """Return the cell of a delay within the horizon; of one below 0 the first."""
        return min(bisect.bisect_left(self._ends_ms, delay_ms), DELAY_CELLS - 1)

    def learn(self, counts: Counts) -> None:
        """Take the delays of a cohort whose horizon has passed."""
        self.counts += counts
        while self.counts.sum() > LABELS_MAX:
            self.counts //= 2

    def shares(self, ages_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """Return the share of labels with delays below each age (n,), rounded down to a cell.

        None while too little is known.
        """
        total = int(self.counts.sum())
        if total < LABELS_MIN:
            return None
        below = np.concatenate([[0], np.cumsum(self.counts)])
        found: npt.NDArray[np.float64] = below[np.searchsorted(self._ends_ms, ages_ms, side="right")] / total
        return found
