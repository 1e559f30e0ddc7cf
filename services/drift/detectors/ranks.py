"""Ranks of values among all earlier ones: uniform and independent while nothing changes.

Pure: counts, bins and tie breakers in, ranks out.
"""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from services.drift.binning.bin_search import BinIndices
from services.drift.binning.statistics import Counts

CHUNK_ROWS = 64
"""Rows ranked at once. Each row is compared with all earlier rows of the chunk, so larger chunks cost
more."""
RESOLUTION = 2**20
"""Ranks are odd multiples of 1 / (2 RESOLUTION), so sums of some thousands of them are exact in any order."""

ROWS_COMPARED_MIN = 30
"""Minimum rows to compare values with; a mean rank among fewer is off by more than 0.05."""

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
    lacks starts empty; its values are ranked among each other and are not compared with the reference. Only
    the counts of the latest row's seasons are in use; the others wait in `known`, each as long as its
    feature has bins.

    Args:
        reference: Counts of the reference by feature, each of shape ``(n_seasons, n_bins)``.
        known: Counts of a snapshot: the reference and the values since; default: those of the reference.
        earlier: Those at an earlier time; see `compared_with`.
        rows: Number of rows ranked so far.

    Examples:
        >>> ranking = Ranking([np.array([[10, 20, 10]])])  # one feature, one season, three bins
        >>> ranks = ranking.rank(np.array([[0], [1], [2]]), np.array([0.5, 0.5, 0.5]))
        >>> ranks.round(3).tolist()
        [[0.134], [0.512], [0.872]]
    """

    def __init__(
        self,
        reference: Iterable[Counts],
        known: Iterable[Counts] | None = None,
        earlier: Iterable[Counts] | None = None,
        rows: int = 0,
    ) -> None:
        """Start from the reference, or from the counts of a snapshot."""
        self._reference = [np.array(each, dtype=np.int64) for each in reference]
        sizes = [each.shape[1] for each in self._reference]
        self._stops = np.cumsum(sizes, dtype=np.intp)
        self._starts = self._stops - sizes
        self._narrow = np.min_scalar_type(max(sizes, default=0))
        self._stored = [list(np.array(each)) for each in (self._reference if known is None else known)]
        self._seasons = np.zeros(len(sizes), dtype=np.intp)
        self._counts = np.concatenate([each[0] for each in self._stored])
        """Counts of the seasons in use, one feature after the other."""
        self.earlier: list[Counts] | None = None
        """Known values when the number of rows last was a power of two, if the reference has no counts."""
        if not any(each.any() for each in self._reference):
            self.earlier = self.known if earlier is None else [np.array(each) for each in earlier]
        self.rows = rows

    @property
    def known(self) -> list[Counts]:
        """The counts by feature, each of shape ``(n_seasons, n_bins)``."""
        for feature in range(len(self._stored)):
            self._store(feature)
        return [np.array(each) for each in self._stored]

    def rank(self, bins: BinIndices, tie_breakers: Ranks, seasons: BinIndices | None = None) -> Ranks:
        """Return the ranks ``(n_rows, n_features)``; they do not depend on how the rows are sliced.

        Args:
            bins: The bin of each value, shape ``(n_rows, n_features)``.
            tie_breakers: A number in (0, 1) for each row, shape ``(n_rows,)``.
            seasons: The index of each value's season, shape ``(n_rows, n_features)``; default: 0.
        """
        if seasons is None and 0 < len(bins) <= CHUNK_ROWS:
            return self._rank_chunk(bins, tie_breakers)
        ranks = np.empty(bins.shape)
        for start, stop in _chunks(len(bins), seasons):
            if seasons is not None:
                self._use(seasons[start])
            ranks[start:stop] = self._rank_chunk(bins[start:stop], tie_breakers[start:stop])
        return ranks

    def compared_with(self, feature: int) -> Counts:
        """Return the counts ``(n_seasons, n_bins)`` with which a changed feature is to be compared.

        In each season these are the counts of the reference. Where it has none, they are the known values;
        of features without any reference those at an earlier time, if that is long enough: they hold few
        values since the change or none.
        """
        self._store(feature)
        past = np.array(self._stored[feature])
        if self.earlier is not None:
            earlier = padded(self.earlier[feature], len(past))
            past = np.where(earlier.sum(axis=1, keepdims=True) >= ROWS_COMPARED_MIN, earlier, past)
        reference = padded(self._reference[feature], len(past))
        counts: Counts = np.where(reference.any(axis=1, keepdims=True), reference, past)
        return counts

    def reset(self, feature: int, counts: Counts) -> None:
        """Replace the known values of a feature by counts ``(n_seasons, n_bins)`` of the first seasons."""
        self._stored[feature] = list(padded(counts, len(self._stored[feature])))
        self._load(feature, int(self._seasons[feature]))
        if self.earlier is not None:
            self.earlier[feature] = np.array(self._stored[feature])

    def _note_rows(self, rows: int) -> None:
        before, self.rows = self.rows, self.rows + rows
        if self.earlier is not None and before.bit_length() < self.rows.bit_length():
            self.earlier = self.known

    def _use(self, seasons: BinIndices) -> None:
        """Exchange the counts of features whose season ``(n_features,)`` is another one."""
        for feature in np.flatnonzero(seasons != self._seasons).tolist():
            self._store(feature)
            self._load(feature, int(seasons[feature]))

    def _store(self, feature: int) -> None:
        part = slice(self._starts[feature], self._stops[feature])
        self._stored[feature][self._seasons[feature]] = self._counts[part].copy()

    def _load(self, feature: int, season: int) -> None:
        stored = self._stored[feature]
        size = int(self._stops[feature] - self._starts[feature])
        stored += [np.zeros(size, dtype=np.int64) for _ in range(season + 1 - len(stored))]
        self._counts[self._starts[feature] : self._stops[feature]] = stored[season]
        self._seasons[feature] = season

    def _rank_chunk(self, bins: BinIndices, tie_breakers: Ranks) -> Ranks:
        positions = bins + self._starts
        sums = np.cumsum(self._counts)
        same = self._counts.take(positions)
        before = sums[self._starts] - self._counts[self._starts]
        lower = sums.take(positions) - same - before
        total = sums[self._stops - 1] - before + np.arange(len(bins))[:, None]
        if len(bins) > 1:
            earlier = _EARLIER[: len(bins), : len(bins)]
            narrow = np.ascontiguousarray(bins.T.astype(self._narrow))
            each, others = narrow[:, None, :], narrow[:, :, None]
            lower += _count((others < each) & earlier)
            same += _count((others == each) & earlier)
        np.add.at(self._counts, positions.reshape(-1), 1)
        exact = (lower + tie_breakers[:, None] * (same + 1)) / (total + 1)
        self._note_rows(len(bins))
        ranks: Ranks = (np.minimum(np.floor(exact * RESOLUTION), RESOLUTION - 1) + 0.5) / RESOLUTION
        return ranks


def _chunks(rows: int, seasons: BinIndices | None) -> Iterator[tuple[int, int]]:
    """Yield ranges of at most `CHUNK_ROWS` rows, each with the same seasons."""
    cuts = set(range(0, rows, CHUNK_ROWS))
    if seasons is not None:
        cuts |= set((np.flatnonzero((seasons[1:] != seasons[:-1]).any(axis=1)) + 1).tolist())
    yield from itertools.pairwise([*sorted(cuts), rows])


def padded(counts: Counts, seasons: int) -> Counts:
    """Return counts ``(n_seasons, n_bins)`` with this number of seasons or more; new ones are empty."""
    found: Counts = np.pad(counts, ((0, max(seasons - len(counts), 0)), (0, 0)))
    return found


def ranks_among(counts: Counts, bins: BinIndices, tie_breakers: Ranks, seasons: BinIndices) -> Ranks:
    """Return the ranks ``(n_rows,)`` of values among counts that stay as they are.

    Args:
        counts: Shape ``(n_seasons, n_bins)``.
        bins: The bin of each value, shape ``(n_rows,)``.
        tie_breakers: A number in (0, 1) for each row.
        seasons: The index of each value's season.
    """
    sums = np.cumsum(counts, axis=1)
    same = counts[seasons, bins]
    lower = sums[seasons, bins] - same
    ranks: Ranks = (lower + tie_breakers * (same + 1)) / (sums[seasons, -1] + 1)
    return ranks


def _count(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Count flags ``(n_features, n_rows, n_rows)`` along the second axis; return ``(n_rows, n_features)``.

    The counts fit into a byte, because the axis is at most `CHUNK_ROWS` long.
    """
    counted: npt.NDArray[np.uint8] = np.add.reduce(flags.view(np.uint8), axis=1, dtype=np.uint8)
    return counted.T
