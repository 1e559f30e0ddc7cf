"""Finds the bin of a number, about ten times as fast as bisection and with equal results. Pure.

The range of the inner edges is divided into slots of equal width, plus one slot on either side. A table
holds, for each slot, how many edges lie in earlier slots; edges within the slot are compared with the number
itself. Rounding therefore decides nothing: the slot of a number never falls when the number grows, and edges
of other slots are on the side that their slot says.
"""

import numpy as np
import numpy.typing as npt

SLOTS = 4096
"""Slots of the table. The 64 edges of a normal distribution fall into different slots, and the table fits
into the first-level cache of a core."""
ROWS_AT_ONCE = 16_384
"""Rows searched at once: with all intermediate results they fit into the second-level cache of a core."""
EDGES_PER_SLOT_MAX = 4
"""Maximum edges in one slot. Each costs one more comparison of all numbers; with more, bisection is as
fast."""

Numbers = npt.NDArray[np.float64]
BinIndices = npt.NDArray[np.intp]


class EdgeSearch:
    """Finds bins between strictly increasing edges: bin i holds ``edges[i-1] <= x < edges[i]``.

    >>> EdgeSearch(np.array([0.0, 1.0, 2.0])).bins(np.array([-5.0, 0.0, 1.5, 2.0]))
    array([0, 1, 2, 3])
    """

    def __init__(self, edges: Numbers) -> None:
        """Build the table for edges of shape ``(n_bins - 1,)``."""
        self._edges = edges
        self._next_edge = np.append(edges, np.nan)  # no number is above the edge after the last one
        inner = edges[1:-1]
        width = float(inner[-1] - inner[0]) if len(inner) > 1 else 0.0
        self._low = float(inner[0]) if len(inner) else 0.0
        self._scale = (SLOTS - 3) / width if 0 < width < np.inf else np.inf
        self._edges_before = np.zeros(SLOTS, dtype=np.intp)
        self._steps = 0
        if np.isfinite(self._scale):
            slots = self._slots(edges)
            self._edges_before = np.searchsorted(slots, np.arange(SLOTS), side="left")
            self._steps = int(np.bincount(slots).max())

    def bins(self, numbers: Numbers) -> BinIndices:
        """Return the bins of numbers ``(n_rows,)``; the bin of a nan is undefined."""
        if not 0 < self._steps <= EDGES_PER_SLOT_MAX:
            return np.searchsorted(self._edges, numbers, side="right")
        bins = np.empty(len(numbers), dtype=np.intp)
        for start in range(0, len(numbers), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            bins[rows] = self._look_up(numbers[rows])
        return bins

    def _look_up(self, numbers: Numbers) -> BinIndices:
        bins = self._edges_before.take(self._slots(numbers), mode="clip")  # the slot of a nan is arbitrary
        for _ in range(self._steps):
            bins += numbers >= self._next_edge.take(bins, mode="clip")
        return bins

    def _slots(self, numbers: Numbers) -> BinIndices:
        with np.errstate(over="ignore", invalid="ignore"):
            slots = numbers - self._low
            slots *= self._scale
            slots += 1.0
            np.clip(slots, 0, SLOTS - 1, out=slots)
            return slots.astype(np.intp)
