"""Where each value stands among all that are known: numbers that are uniform as long as nothing changes.

Pure: counts, cells and chances in, ranks out.
"""

import numpy as np
import numpy.typing as npt

from services.drift.binning.statistics import Counts

CHUNK_ROWS = 64
"""Rows ranked at once: each is compared with those before it in the chunk, so more cost more."""
RESOLUTION = 2**20
"""Ranks are odd multiples of half of 1 / this: sums of some thousands are exact, in any order."""

_BEFORE = np.triu(np.ones((CHUNK_ROWS, CHUNK_ROWS), dtype=bool), 1)
"""Which row, the first index, is before which."""

BinIndices = npt.NDArray[np.intp]
Ranks = npt.NDArray[np.float64]


class Ranking:
    """Ranks values of several features among a reference and among each other.

    A rank is the smoothed conformal p-value (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random
    World", 2005, proposition 2.8): with N values known, B in lower cells and E in the same cell,
    ``(B + chance (E + 1)) / (N + 1)``; then the value itself becomes known. If reference and stream are
    exchangeable, the ranks are independent and uniform: exactly, for a reference of 1 row as of 1,000,000.
    Ranks against a reference that stands for the truth are not: with 2,000 rows, nearly all such streams
    raise a false alarm within 20,000 values. The price is that a change which is not noticed becomes
    known too; it fades when about as many values were seen as the reference has.

    Seasons have their own counts: a value is ranked among those of its own season. One that the reference
    lacks starts empty: then its values are ranked among each other, and say nothing of the reference.
    """

    def __init__(self, reference: Counts, known: Counts | None = None) -> None:
        """Start from counts of shape ``(n_features, n_seasons, n_cells)``, or go on from those of a state."""
        self._reference = reference
        self.known: Counts = (reference if known is None else known).copy()

    def rank(self, cells: BinIndices, chances: Ranks, seasons: BinIndices | None = None) -> Ranks:
        """Return the ranks ``(n_rows, n_features)`` of cells of that shape; chances ``(n_rows,)`` break ties.

        Seasons are indices of the shape of the cells. The result does not depend on how rows are sliced.
        """
        ranks = np.empty(cells.shape)
        for start in range(0, len(cells), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            season = np.zeros_like(cells[chunk]) if seasons is None else seasons[chunk]
            ranks[chunk] = self._rank_chunk(cells[chunk], chances[chunk], season)
        return ranks

    def reset(self, feature: int) -> None:
        """Forget what this feature's stream added to its reference."""
        self.known[feature] = self._grown()[feature]

    def make_room(self, seasons: int) -> None:
        """Have counts for so many seasons."""
        missing = seasons - self.known.shape[1]
        if missing > 0:
            self.known = np.pad(self.known, ((0, 0), (0, missing), (0, 0)))

    def _grown(self) -> Counts:
        missing = self.known.shape[1] - self._reference.shape[1]
        return np.pad(self._reference, ((0, 0), (0, missing), (0, 0)))

    def _rank_chunk(self, cells: BinIndices, chances: Ranks, seasons: BinIndices) -> Ranks:
        features, known_seasons, size = self.known.shape
        places = seasons * size + cells
        own = places + np.arange(features) * (known_seasons * size)
        sums = np.cumsum(self.known, axis=2).reshape(-1)
        known = self.known.reshape(-1)
        same = known.take(own)
        lower = sums.take(own) - same
        total = sums.take(own - cells + size - 1)
        if len(cells) > 1:
            before = _BEFORE[: len(cells), : len(cells)]
            narrow = np.ascontiguousarray(places.T.astype(np.min_scalar_type(known_seasons * size)))
            each, others = narrow[:, None, :], narrow[:, :, None]
            lower += _count((others < each) & before)
            same += _count((others == each) & before)
            if known_seasons == 1:
                total += np.arange(len(cells))[:, None]
            else:
                first = np.ascontiguousarray((places - cells).T.astype(narrow.dtype))
                lower -= _count((others < first[:, None, :]) & before)
                total += _count((first[:, :, None] == first[:, None, :]) & before)
        np.add.at(known, own.reshape(-1), 1)
        exact = (lower + chances[:, None] * (same + 1)) / (total + 1)
        ranks: Ranks = (np.minimum(np.floor(exact * RESOLUTION), RESOLUTION - 1) + 0.5) / RESOLUTION
        return ranks


def _count(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Count flags ``(n_features, n_rows, n_rows)`` along their second axis, which is no longer than a chunk.

    Return ``(n_rows, n_features)``.
    """
    counted: npt.NDArray[np.uint8] = np.add.reduce(flags.view(np.uint8), axis=1, dtype=np.uint8)
    return counted.T
