"""Label maturity: the share of the labels of a cohort that have come by its age. Pure.

Early labels differ from all labels: a flight that has arrived is more likely on time. So the performance of a
cohort, the predictions of one stretch of event time, is known only when nearly all of its labels have come.
How long that takes is learned from cohorts whose label horizon has passed, because all their delays are
known.
"""

import bisect
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DELAY_CELLS = 64
"""Number of cells in which delays are counted."""
_CELLS_TO_HALF = 4
"""Cell k from the last ends at horizon * 2**(-k / 4): from the horizon down to a 55,000th of it."""
LABELS_MIN = 100
"""Minimum delays known; with fewer, a cohort is mature only when its horizon has passed."""
LABELS_MAX = 100_000
"""Maximum delays counted; beyond it all counts are halved, so that the counts follow delays that change."""

Counts = npt.NDArray[np.int64]


class LabelDelays:
    """Counts of label delays, in cells that end at fixed shares of the horizon.

    >>> delays = LabelDelays(horizon_ms=3_600_000)
    >>> counts = np.zeros(DELAY_CELLS, dtype=np.int64)
    >>> counts[delays.cell_of(60_000)], counts[delays.cell_of(1_800_000)] = 300, 100
    >>> delays.learn(counts)
    >>> delays.shares(np.array([600_000, 3_600_000]))  # after 10 minutes and after an hour
    array([0.75, 1.  ])
    """

    def __init__(self, horizon_ms: int, counts: Sequence[int] = ()) -> None:
        """Start without delays, or from the counts of a snapshot."""
        ends = [horizon_ms * 2 ** (-cell / _CELLS_TO_HALF) for cell in reversed(range(DELAY_CELLS))]
        self._ends_ms = [round(end) for end in ends]
        self.counts: Counts = np.array(list(counts) or [0] * DELAY_CELLS, dtype=np.int64)

    def cell_of(self, delay_ms: int) -> int:
        """Return the cell of a delay within the horizon; a delay below 0 belongs to the first cell."""
        return min(bisect.bisect_left(self._ends_ms, delay_ms), DELAY_CELLS - 1)

    def learn(self, counts: Counts) -> None:
        """Add the delays ``(DELAY_CELLS,)`` of a cohort whose horizon has passed."""
        self.counts += counts
        while self.counts.sum() > LABELS_MAX:
            self.counts //= 2

    def shares(self, ages_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """Return the share of labels with delays below each age ``(n_ages,)``, rounded down to a cell.

        None while fewer than `LABELS_MIN` delays are known.
        """
        total = int(self.counts.sum())
        if total < LABELS_MIN:
            return None
        below = np.concatenate([[0], np.cumsum(self.counts)])
        found: npt.NDArray[np.float64] = below[np.searchsorted(self._ends_ms, ages_ms, side="right")] / total
        return found

    def share_bounds(
        self, ages_ms: npt.NDArray[np.int64], spread_ms: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return bounds of the share of labels known at each age ``(n_ages,)`` and up to ``spread_ms`` later.

        Delays are counted in cells, so a share is known only at their ends. A delay must be known.
        """
        below = np.concatenate([[0], np.cumsum(self.counts)]) / self.counts.sum()
        first = np.searchsorted(self._ends_ms, ages_ms, side="right")
        last = np.searchsorted(self._ends_ms, ages_ms + spread_ms, side="left") + 1
        return below[first], below[np.minimum(last, DELAY_CELLS)]
