"""Watches the ranks of some features, and the shares of their values, for the begin and end of changes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.binning.bin_counts import FeatureBinner
from services.drift.binning.bin_search import BinIndices
from services.drift.binning.statistics import Counts
from services.drift.detectors.e_detector import EDetector
from services.drift.detectors.protocol import DetectedChange, TimesMs
from services.drift.detectors.ranks import Ranking, Ranks, padded
from services.drift.detectors.share_detector import KindsOfRows, ShareChange, ShareDetector
from services.drift.detectors.standing_changes import Recovery, StandingChange, StreamRows
from services.monitoring.seasons import seasons_of
from services.monitoring.value_kinds import ValueKinds
from streams.records import FeatureReference

BUFFERED_ROWS = 64
"""Rows processed together, at the latest at the end of a window; a multiple of `e_detector.STEP_ROWS`."""
SEASONS_MAX = 400
"""Maximum seasons of one feature with separate counts; further seasons share the last one."""


class WatcherState(msgspec.Struct, array_like=True):
    """The state of a `Watcher`."""

    known: bytes
    """Counts of all known values: by feature, then by season, then by bin; see `_known_of`."""
    seasons: list[list[int]]
    """The seasons of each feature, in the order of their counts."""
    detector: bytes
    times_ms: bytes
    """Times of the buffered rows."""
    tie_breakers: bytes
    bins: bytes
    shares: bytes | None = None
    """The detector of shares; null in older states, and where there is none."""
    standing: list[StandingChange] = []
    """The changes that last."""
    earlier: bytes = b""
    """Counts of the known values at an earlier time, in the shape of ``known``; see `Ranking`."""
    rows: int = 0
    """Number of rows ranked so far."""


class BufferedRows(NamedTuple):
    """Rows that wait to be processed."""

    times_ms: TimesMs
    tie_breakers: Ranks
    bins: BinIndices
    """Shape ``(n_rows, n_features)``."""

    @classmethod
    def empty(cls, features: int) -> "BufferedRows":
        """Return no rows."""
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, features), np.intp))

    def with_more(self, *more: npt.NDArray[Any]) -> "BufferedRows":
        """Return these rows followed by others."""
        if not len(self.times_ms):
            return BufferedRows(*more)
        return BufferedRows(*(np.concatenate(pair) for pair in zip(self, more, strict=True)))

    def part(self, start: int, stop: int) -> "BufferedRows":
        """Return the rows ``start`` to ``stop``."""
        return BufferedRows(self.times_ms[start:stop], self.tie_breakers[start:stop], self.bins[start:stop])


class WatchedChange(NamedTuple):
    """A change of one feature: of its ranks, or of the share of one kind of its values."""

    change: DetectedChange
    share: ShareChange | None = None


class Watcher:
    """Bets on the ranks of some features among the reference, by season, and on shares of their values.

    While a change lasts, its values are ranked among those before it, and it is not returned again; see
    `standing_changes`.

    Args:
        references: The references of the features.
        threshold_ms: Minimum mean time between two false alarms of one stream.
        state: The state of a watcher with the same references.
        kinds: The kinds of values of each feature whose shares are watched, one stream for each feature;
            default: none.
        patience_ms: Minimum mean time until a change that lasts is taken for over; default:
            ``threshold_ms``.
    """

    def __init__(
        self,
        references: Sequence[FeatureReference],
        threshold_ms: float,
        state: WatcherState | None = None,
        patience_ms: float | None = None,
        *,
        kinds: Sequence[ValueKinds] = (),
    ) -> None:
        """Start without evidence of a change, or from a state."""
        self.features = [reference.feature for reference in references]
        self._season_parts = [reference.season for reference in references]
        self._binners = [FeatureBinner(reference) for reference in references]
        self._seasons = [[int(season) for season in reference.seasons] or [0] for reference in references]
        counts = self._counts(references)
        self._ranking = Ranking(counts)
        effects = np.array([reference.design_effect for reference in references])
        self._powers = 1 / np.maximum(effects, 1.0)
        self._patience_ms = threshold_ms if patience_ms is None else patience_ms
        self._detector = EDetector(len(references), threshold_ms, effects)
        self._standing: dict[tuple[int, int], StandingChange] = {}
        self._buffered = BufferedRows.empty(len(references))
        self._shares: ShareDetector | None = None
        if kinds:
            self._kinds = KindsOfRows(kinds, [max(len(reference.seasons), 1) for reference in references])
            self._shares = ShareDetector(kinds, threshold_ms)
            if state is not None and state.shares is not None:
                self._shares.restore(state.shares)
        if state is not None:
            self._seasons = [list(seasons) for seasons in state.seasons]
            sizes = [each.shape[1] for each in counts]
            self._ranking = Ranking(
                counts, _known_of(state.known, state, sizes), _earlier_of(state, sizes), state.rows
            )
            self._detector.restore(state.detector)
            self._standing = {(each.stream, each.kind): each for each in state.standing}
            self._buffered = BufferedRows(
                np.frombuffer(state.times_ms, dtype=np.int64),
                np.frombuffer(state.tie_breakers, dtype=np.float64),
                np.frombuffer(state.bins, dtype=np.uint16).reshape(-1, len(references)).astype(np.intp),
            )

    def add(
        self, times_ms: TimesMs, tie_breakers: Ranks, bins: BinIndices
    ) -> list[tuple[int, WatchedChange | Recovery]]:
        """Process rows; return changes and recoveries, each with the index of the row that showed it.

        `BUFFERED_ROWS` rows are processed at once, counted from the last `flush`, so the slices in which rows
        arrive make no difference.
        """
        before = len(self._buffered.times_ms)
        buffered = self._buffered.with_more(times_ms, tie_breakers, bins)
        found: list[tuple[int, WatchedChange | Recovery]] = []
        whole = len(buffered.times_ms) // BUFFERED_ROWS * BUFFERED_ROWS
        for start in range(0, whole, BUFFERED_ROWS):
            stop = start + BUFFERED_ROWS
            found += [(stop - 1 - before, change) for change in self._detect(buffered.part(start, stop))]
        self._buffered = buffered.part(whole, len(buffered.times_ms))
        return found

    @property
    def standing(self) -> set[str]:
        """The features whose change lasts."""
        return {self.features[each.stream] for each in self._standing.values()}

    def flush(self) -> list[WatchedChange | Recovery]:
        """Process the buffered rows."""
        buffered, self._buffered = self._buffered, BufferedRows.empty(len(self.features))
        found = self._detect(buffered) if len(buffered.times_ms) else []
        risen = self._shares.flush() if self._shares is not None else []
        changes = [WatchedChange(each.change, each) for each in risen]
        return [*found, *(each for each in changes if self._begin(*each))]

    def _detect(self, rows: "BufferedRows") -> list[WatchedChange | Recovery]:
        seasons = self._season_indices(rows.times_ms) if any(self._season_parts) else None
        found: list[WatchedChange] = []
        kinds = None
        if self._shares is not None:
            kinds = self._kinds.find(rows.bins, seasons)
            found += [WatchedChange(each.change, each) for each in self._shares.update(kinds, rows.times_ms)]
        ranks = self._ranking.rank(rows.bins, rows.tie_breakers, seasons)
        found += [WatchedChange(change) for change in self._detector.update(ranks, rows.times_ms)]
        over = [key for key, each in self._standing.items() if self._is_over(each, rows, seasons, kinds)]
        begun = [each for each in found if self._begin(*each)]
        return [*begun, *(Recovery(stream) for stream, kind in over if self._end(stream, kind))]

    def _begin(self, change: DetectedChange, share: ShareChange | None) -> bool:
        """Keep a change, if none is kept already; tell whether it is the first one of its feature."""
        stream = change.stream
        is_first = all(each.stream != stream for each in self._standing.values())
        kind = 0 if share is None else self._kinds.number(stream, share.kind)
        if (stream, kind) in self._standing:
            return False
        if share is not None:
            self._standing[stream, kind] = StandingChange.of_share(
                change, kind, share.share_before, share.share
            )
        else:
            before = self._ranking.compared_with(stream)
            self._standing[stream, kind] = StandingChange.of(change, before)
            self._ranking.reset(stream, before)
        return is_first

    def _is_over(
        self,
        standing: StandingChange,
        rows: BufferedRows,
        seasons: BinIndices | None,
        kinds: npt.NDArray[np.int8] | None,
    ) -> bool:
        """Bet on the rows that can be compared that a change is over."""
        stream = standing.stream
        of_season = np.zeros(len(rows.times_ms), np.intp) if seasons is None else seasons[:, stream]
        if kinds is not None and self._shares is not None and standing.kind:
            known = self._kinds.are_known(stream, standing.kind, of_season)
            weights = (kinds[known, stream] == standing.kind).astype(np.float64)
            power = self._shares.power(stream, standing.kind)
            return standing.is_over(weights, rows.times_ms[known], power, self._patience_ms)
        of_stream = StreamRows(rows.times_ms, rows.bins[:, stream], rows.tie_breakers, of_season)
        weights, times_ms = standing.weigh(self._before(standing), of_stream)
        return standing.is_over(weights, times_ms, float(self._powers[stream]), self._patience_ms)

    def _end(self, stream: int, kind: int) -> bool:
        """End a change, and start again as before it; tell whether it was the last one of its feature."""
        standing = self._standing.pop((stream, kind))
        if kind and self._shares is not None:
            self._shares.reset(stream)
        elif not kind:
            self._ranking.reset(stream, self._before(standing))
            self._detector.reset(stream)
        return all(each.stream != stream for each in self._standing.values())

    def _before(self, standing: StandingChange) -> Counts:
        """Return the counts before a change, with all seasons that are known by now."""
        stream = standing.stream
        return padded(standing.counts(self._binners[stream].missing + 1), len(self._seasons[stream]))

    def state(self) -> WatcherState:
        """Return the state, which `__init__` takes."""
        buffered = self._buffered
        return WatcherState(
            b"".join(each.tobytes() for each in self._ranking.known),
            self._seasons,
            self._detector.state(),
            buffered.times_ms.tobytes(),
            buffered.tie_breakers.tobytes(),
            buffered.bins.astype(np.uint16).tobytes(),
            None if self._shares is None else self._shares.state(),
            list(self._standing.values()),
            b"".join(
                padded(each, len(seasons)).tobytes()
                for each, seasons in zip(self._ranking.earlier or (), self._seasons, strict=False)
            ),
            self._ranking.rows,
        )

    def _season_indices(
        self, times_ms: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
        indices = np.zeros((len(times_ms), len(self.features)), dtype=np.intp)
        found = {
            tuple(parts): _in_order(seasons_of(times_ms, parts)) for parts in self._season_parts if parts
        }
        for feature, parts in enumerate(self._season_parts):
            if parts:
                seasons, of_row = found[tuple(parts)]
                known = np.array([self._season_index(feature, season) for season in seasons])
                indices[:, feature] = known[of_row]
        return indices

    def _season_index(self, feature: int, season: int) -> int:
        known = self._seasons[feature]
        if season not in known and len(known) < SEASONS_MAX:
            known.append(season)
        return known.index(season) if season in known else SEASONS_MAX - 1

    def _counts(self, references: Sequence[FeatureReference]) -> list[Counts]:
        return [
            np.array(
                [binner.with_unseen(counts) for counts in reference.seasons.values()]
                or [binner.with_unseen([*reference.counts, reference.missing])],
                dtype=np.int64,
            )
            for binner, reference in zip(self._binners, references, strict=True)
        ]


def _in_order(values: npt.NDArray[np.int64]) -> tuple[list[int], npt.NDArray[np.intp]]:
    """Return the distinct values in the order of their first rows, and the number of each row's value."""
    numbers: dict[int, int] = {}
    of_row = [numbers.setdefault(value, len(numbers)) for value in values.tolist()]
    return list(numbers), np.array(of_row, dtype=np.intp)


def _earlier_of(state: WatcherState, sizes: Sequence[int]) -> list[Counts] | None:
    """Return the earlier counts of a state by feature; states of older versions have none."""
    return _known_of(state.earlier, state, sizes) if state.earlier else None


def _known_of(stored: bytes, state: WatcherState, sizes: Sequence[int]) -> list[Counts]:
    """Return the known counts of a state by feature, each ``(n_seasons, n_bins)``, for these numbers of bins.

    States of older versions fill all features up to the largest numbers of seasons and of bins.
    """
    known = np.frombuffer(stored, dtype=np.int64)
    shapes = [(len(seasons), size) for seasons, size in zip(state.seasons, sizes, strict=True)]
    lengths = [seasons * size for seasons, size in shapes]
    if len(known) > sum(lengths):
        padded = known.reshape(len(sizes), -1, max(sizes))
        return [each[:seasons, :size] for each, (seasons, size) in zip(padded, shapes, strict=True)]
    parts = np.split(known, np.cumsum(lengths)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
