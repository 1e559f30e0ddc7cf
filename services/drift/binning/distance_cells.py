"""Cells of the numbers outside a range, by their distance from its end. Pure.

A cell is a sixteenth of an octave, so a number in it is off by at most a sixteenth of its distance. There are
cells from 2^-10 to 2^54 times the width of the range: at most `CELLS` on a side, whatever the numbers are.
The cell of a number depends on the bits of its distance alone, so counts add up in any order.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CELLS_IN_OCTAVE = 16
OCTAVES_NEAR, OCTAVES_FAR = 10, 54
CELLS = (OCTAVES_NEAR + OCTAVES_FAR) * CELLS_IN_OCTAVE + 2
"""Maximum cells: one for all smaller distances, and one for all larger ones."""

Numbers = npt.NDArray[np.float64]


class Tail(NamedTuple):
    """The numbers on one side of a range: rising intervals, each with its count ``(n_cells,)``."""

    lower: Numbers
    upper: Numbers
    counts: npt.NDArray[np.int64]


def unit_of(low: float, high: float) -> float:
    """Return the distance of which cells are parts: a power of two of the size of the range, or of its end.

    >>> unit_of(0.0, 3.0), unit_of(5.0, 5.0), unit_of(0.0, 0.0)
    (4.0, 8.0, 1.0)
    """
    size = high - low
    if not 0 < size < math.inf:
        size = max(abs(low), abs(high))
    return math.ldexp(1.0, min(math.frexp(size)[1], 1000)) if size else 1.0


def cells_of(distances: Numbers, unit: float) -> npt.NDArray[np.int64]:
    """Return the cells ``(n_rows,)`` of distances, which are at least 0.

    >>> cells_of(np.array([0.0, 1.0, 1.07, 2.0]), unit=1.0).tolist()
    [0, 161, 162, 177]
    """
    with np.errstate(over="ignore"):
        parts = np.minimum(distances / unit, 2.0**OCTAVES_FAR)
    fractions, exponents = np.frexp(parts)
    octaves = exponents.astype(np.int64) - 1 + OCTAVES_NEAR
    cells = octaves * CELLS_IN_OCTAVE + np.floor((2 * fractions - 1) * CELLS_IN_OCTAVE).astype(np.int64) + 1
    return np.where((octaves < 0) | (parts == 0), 0, cells)


def bounds_of(cells: npt.NDArray[np.int64], unit: float) -> tuple[Numbers, Numbers]:
    """Return the least and the largest distance of each cell; the last cell has no end."""
    return _starts_of(cells, unit), np.where(cells < CELLS - 1, _starts_of(cells + 1, unit), np.inf)


def _starts_of(cells: npt.NDArray[np.int64], unit: float) -> Numbers:
    octaves, parts = np.divmod(cells - 1, CELLS_IN_OCTAVE)
    starts: Numbers = np.ldexp(1 + parts / CELLS_IN_OCTAVE, octaves - OCTAVES_NEAR) * unit
    return np.where(cells > 0, starts, 0.0)
