"""Ranks of values among all earlier ones: uniform and independent while nothing changes.

Pure: counts, bins and tie breakers in, ranks out.
"""

import numpy as np
import numpy.typing as npt

from services.drift.binning.bin_search import BinIndices
from services.drift.binning.statistics import Counts

CHUNK_ROWS = 64
"""Rows ranked at once. Each row is compared with all earlier rows of the chunk, so larger chunks cost
more."""
RESOLUTION = 2**20
"""Ranks are odd multiples of 1 / (2 RESOLUTION), so sums of some thousands of them are exact in any order."""

_EARLIER = np.triu(np.ones((CHUNK_ROWS, CHUNK_ROWS), dtype=bool), 1)
"""Whether a row (first index) is earlier than another one (second index)."""

Ranks = npt.NDArray[np.float64]


class Ranking:
    """Ranks values of several features among a reference and among each other.

    A rank is the smoothed conformal p-value (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random
    World", 2005, proposition 2.8): with N known values, B of them in lower bins and E in the same bin, the
    rank is ``(B + tie_breaker (E + 1)) / (N + 1)``; then the value itself becomes known. If reference and
    stream are exchangeable, the ranks are exactly independent and uniform, for a reference of 1 row as well
    as of 1,000,000. Ranks among the reference alone are not: with 2,000 rows, nearly all unchanged streams
    raise a false alarm within 20,000 values. The price is that an undetected change becomes known, too; its
    effect on the ranks fades after about as many values as the reference has.

    Seasons have separate counts: a value is ranked among those of its own season. A season that the reference
    lacks starts empty; its values are ranked among each other and are not compared with the reference.

    Args:
        reference: Counts of the reference, shape ``(n_features, n_seasons, n_bins)``.
        known: Counts of a snapshot: the reference and the values since; default: those of the reference.

    Examples:
        >>> ranking = Ranking(np.array([[[10, 20, 10]]]))  # one feature, one season, three bins
        >>> ranks = ranking.rank(np.array([[0], [1], [2]]), np.array([0.5, 0.5, 0.5]))
        >>> ranks.round(3).tolist()
        [[0.134], [0.512], [0.872]]
    """

    def __init__(self, reference: Counts, known: Counts | None = None) -> None:
        """Start from the reference, or from the counts of a snapshot."""
        self._reference = reference
        self.known: Counts = (reference if known is None else known).copy()

    def rank(self, bins: BinIndices, tie_breakers: Ranks, seasons: BinIndices | None = None) -> Ranks:
        """Return the ranks ``(n_rows, n_features)``; they do not depend on how the rows are sliced.

        Args:
            bins: The bin of each value, shape ``(n_rows, n_features)``.
            tie_breakers: A number in (0, 1) for each row, shape ``(n_rows,)``.
            seasons: The index of each value's season, shape ``(n_rows, n_features)``; default: 0.
        """
        ranks = np.empty(bins.shape)
        for start in range(0, len(bins), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            season = np.zeros_like(bins[chunk]) if seasons is None else seasons[chunk]
            ranks[chunk] = self._rank_chunk(bins[chunk], tie_breakers[chunk], season)
        return ranks

    def reset(self, feature: int) -> None:
        """Remove the values that the stream of a feature added to its reference."""
        self.known[feature] = self._padded_reference()[feature]

    def reserve_seasons(self, seasons: int) -> None:
        """Extend the counts to this number of seasons."""
        missing = seasons - self.known.shape[1]
        if missing > 0:
            self.known = np.pad(self.known, ((0, 0), (0, missing), (0, 0)))

    def _padded_reference(self) -> Counts:
        missing = self.known.shape[1] - self._reference.shape[1]
        return np.pad(self._reference, ((0, 0), (0, missing), (0, 0)))

    def _rank_chunk(self, bins: BinIndices, tie_breakers: Ranks, seasons: BinIndices) -> Ranks:
        features, known_seasons, size = self.known.shape
        positions = seasons * size + bins  # of the bin within its feature
        flat = positions + np.arange(features) * (known_seasons * size)
        sums = np.cumsum(self.known, axis=2).reshape(-1)
        known = self.known.reshape(-1)
        same = known.take(flat)
        lower = sums.take(flat) - same
        total = sums.take(flat - bins + size - 1)
        if len(bins) > 1:
            earlier = _EARLIER[: len(bins), : len(bins)]
            narrow = np.ascontiguousarray(positions.T.astype(np.min_scalar_type(known_seasons * size)))
            each, others = narrow[:, None, :], narrow[:, :, None]
            lower += _count((others < each) & earlier)
            same += _count((others == each) & earlier)
            if known_seasons == 1:
                total += np.arange(len(bins))[:, None]
            else:
                first = np.ascontiguousarray((positions - bins).T.astype(narrow.dtype))
                lower -= _count((others < first[:, None, :]) & earlier)
                total += _count((first[:, :, None] == first[:, None, :]) & earlier)
        np.add.at(known, flat.reshape(-1), 1)
        exact = (lower + tie_breakers[:, None] * (same + 1)) / (total + 1)
        ranks: Ranks = (np.minimum(np.floor(exact * RESOLUTION), RESOLUTION - 1) + 0.5) / RESOLUTION
        return ranks


def _count(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Count flags ``(n_features, n_rows, n_rows)`` along the second axis; return ``(n_rows, n_features)``.

    The counts fit into a byte, because the axis is at most `CHUNK_ROWS` long.
    """
    counted: npt.NDArray[np.uint8] = np.add.reduce(flags.view(np.uint8), axis=1, dtype=np.uint8)
    return counted.T
