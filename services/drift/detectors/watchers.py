"""Watches every prediction and every loss as it comes: which detectors look at what, and what they found."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.alarm_texts import relation_text
from services.drift.binning.bin_counts import FeatureBinner
from services.drift.binning.binning import BinIndices, BinnedRows, PredictionRows
from services.drift.detectors.e_detector import EDetector, HarmDetector
from services.drift.detectors.protocol import DetectedChange, Detector, TimesMs
from services.drift.detectors.ranks import Ranking, Ranks
from services.drift.detectors.relation_detector import PairChange, PairDetector, relation
from services.drift.performance.loss_baseline import LossBaseline
from services.monitoring.rank_correlation import Moments
from services.monitoring.seasons import seasons_of
from services.monitoring.segments import segments_of
from services.runtime.declaration import Monitoring
from streams.records import FeatureReference, Reference

ROWS_HELD = 64
"""Rows watched together, at the latest at the end of a window; a multiple of `edetector.STEP_ROWS`."""
SEASONS_MAX = 400
"""Seasons of one feature with counts of their own; further ones share the last."""
HARM = "harm"
SCORE = "score"


class WatcherState(msgspec.Struct, array_like=True):
    """All that a `Watcher` knows."""

    known: bytes
    """Counts (n_features, n_seasons, n_cells)."""
    seasons: list[list[int]]
    """By feature: the seasons in the order of their counts."""
    detector: bytes
    times_ms: bytes
    """Of the rows that are not yet watched."""
    chances: bytes
    cells: bytes


class BufferedRows(NamedTuple):
    """Rows that wait to be watched."""

    times_ms: TimesMs
    chances: Ranks
    cells: BinIndices
    """Shape ``(n_rows, n_features)``."""

    @classmethod
    def empty(cls, features: int) -> "BufferedRows":
        """Return no rows."""
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, features), np.intp))

    def with_more(self, *more: npt.NDArray[Any]) -> "BufferedRows":
        """Return these rows and others behind them."""
        if not len(self.times_ms):
            return BufferedRows(*more)
        return BufferedRows(*(np.concatenate(pair) for pair in zip(self, more, strict=True)))

    def part(self, start: int, stop: int) -> "BufferedRows":
        """Return some of the rows."""
        return BufferedRows(self.times_ms[start:stop], self.chances[start:stop], self.cells[start:stop])


class Watcher:
    """Ranks the rows of some features among the reference, each in its season, and bets on the ranks."""

    def __init__(
        self, references: Sequence[FeatureReference], threshold_ms: float, state: WatcherState | None = None
    ) -> None:
        """Start calm, or from a state with the same references."""
        self.features = [reference.feature for reference in references]
        self._season_parts = [reference.season for reference in references]
        self._places = [FeatureBinner(reference) for reference in references]
        self._seasons = [[int(season) for season in reference.seasons] or [0] for reference in references]
        counts = self._counts(references)
        self._ranking = Ranking(counts)
        effects = np.array([reference.design_effect for reference in references])
        self._detector: Detector = EDetector(len(references), threshold_ms, effects)
        self._held = BufferedRows.empty(len(references))
        if state is not None:
            self._seasons = [list(seasons) for seasons in state.seasons]
            known = np.frombuffer(state.known, dtype=np.int64)
            shape = (len(references), -1, counts.shape[2])
            self._ranking = Ranking(counts, known.reshape(shape))
            self._detector.restore(state.detector)
            self._held = BufferedRows(
                np.frombuffer(state.times_ms, dtype=np.int64),
                np.frombuffer(state.chances, dtype=np.float64),
                np.frombuffer(state.cells, dtype=np.uint16).reshape(-1, len(references)).astype(np.intp),
            )

    def add(self, times_ms: TimesMs, chances: Ranks, cells: BinIndices) -> list[tuple[int, DetectedChange]]:
        """Take rows; return changes, each with the number of the row with which it was noticed.

        Rows are watched `ROWS_HELD` at once, counted from the last `watch`, however they come.
        """
        before = len(self._held.times_ms)
        held = self._held.with_more(times_ms, chances, cells)
        found: list[tuple[int, DetectedChange]] = []
        whole = len(held.times_ms) // ROWS_HELD * ROWS_HELD
        for start in range(0, whole, ROWS_HELD):
            stop = start + ROWS_HELD
            found += [(stop - 1 - before, change) for change in self._watch(held.part(start, stop))]
        self._held = held.part(whole, len(held.times_ms))
        return found

    def flush(self) -> list[DetectedChange]:
        """Watch the rows that are held."""
        held, self._held = self._held, BufferedRows.empty(len(self.features))
        return self._watch(held) if len(held.times_ms) else []

    def _watch(self, rows: "BufferedRows") -> list[DetectedChange]:
        ranks = self._ranking.rank(rows.cells, rows.chances, self._season_places(rows.times_ms))
        changes = self._detector.update(ranks, rows.times_ms)
        for change in changes:
            self._ranking.reset(change.stream)
        return changes

    def state(self) -> WatcherState:
        """Return what `__init__` takes."""
        held = self._held
        return WatcherState(
            self._ranking.known.tobytes(),
            self._seasons,
            self._detector.state(),
            held.times_ms.tobytes(),
            held.chances.tobytes(),
            held.cells.astype(np.uint16).tobytes(),
        )

    def _season_places(
        self, times_ms: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
        found = np.zeros((len(times_ms), len(self.features)), dtype=np.intp)
        for feature, parts in enumerate(self._season_parts):
            if parts:
                seasons = seasons_of(times_ms, parts).tolist()
                found[:, feature] = [self._season_place(feature, season) for season in seasons]
        self._ranking.make_room(max(map(len, self._seasons)))
        return found

    def _season_place(self, feature: int, season: int) -> int:
        known = self._seasons[feature]
        if season not in known and len(known) < SEASONS_MAX:
            known.append(season)
        return known.index(season) if season in known else SEASONS_MAX - 1

    def _counts(
        self, references: Sequence[FeatureReference]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        rows = [
            [places.counts_of(counts) for counts in reference.seasons.values()]
            or [places.counts_of([*reference.counts, reference.missing])]
            for places, reference in zip(self._places, references, strict=True)
        ]
        cells = max(places.missing for places in self._places) + 1
        found = np.zeros((len(rows), max(map(len, rows)), cells), dtype=np.int64)
        for feature, seasons in enumerate(rows):
            for season, counts in enumerate(seasons):
                found[feature, season, : len(counts)] = counts
        return found


@dataclasses.dataclass(frozen=True)
class ObservedChange:
    """A change with what it is about."""

    kind: Literal["feature", "score", "relation"]
    subject: str
    """A feature, two of them, or ``score``."""
    segment: str
    """``origin=EWR``, or empty."""
    change: DetectedChange
    text: str = ""
    """What is to be said; empty: what is said of ranks."""


class Watchers:
    """Watches the features and the champion's scores against the reference, segments against their past."""

    def __init__(
        self,
        reference: Reference | None,
        monitoring: Monitoring,
        states: Mapping[str, WatcherState] | None = None,
        pairs: bytes | None = None,
    ) -> None:
        """Start calm, or from states; without a reference there is nothing to watch."""
        features = reference.features if reference else []
        self._features = [each.feature for each in features]
        self._segments = segments_of(features, monitoring.segments)
        watched = {
            name: _without_counts(features) if name else features
            for name in ("", *self._segments)
            if features
        }
        if reference is not None and reference.score is not None:
            watched[SCORE] = [reference.score]
        known = None if reference is None else reference.pairs
        self.streams = sum(map(len, watched.values())) + (known is not None) + 1
        """How many share the budget; the last ones are all pairs of features, and the loss."""
        threshold_ms = self.streams * monitoring.patience_ms
        kept = states or {}
        self._watchers = {name: Watcher(each, threshold_ms, kept.get(name)) for name, each in watched.items()}
        self._pairs: PairDetector | None = None
        if known is not None:
            effects = np.array([each.design_effect for each in features[: len(known.sums)]])
            self._pairs = PairDetector(Moments.of_reference(known), threshold_ms, effects)
            if pairs is not None:
                self._pairs.restore(pairs)

    def add(self, rows: PredictionRows, placed: BinnedRows, version: int) -> list[tuple[int, ObservedChange]]:
        """Take rows in the common order, the champion's version among theirs.

        Return what was noticed, each with the number of the row with which it was.
        """
        chances = rows.chances()
        noticed: list[tuple[int, ObservedChange]] = []
        if self._features:
            for name in ("", *self._segments):
                which = slice(None) if not name else self._in_segment(name, placed.cells)
                at, cells = placed.rows[which], placed.cells[which]
                noticed += self._add(name, at, rows.times_ms, chances, cells)
        if SCORE in self._watchers and placed.scores is not None:
            at = np.flatnonzero(rows.versions == version)
            noticed += self._add(SCORE, at, rows.times_ms, chances, placed.scores[at][:, None])
        if self._pairs is not None:
            found = self._pairs.update(placed.pair_scores, rows.times_ms[placed.rows])
            noticed += [(int(placed.rows[row]), self._relation(change)) for row, change in found]
        return noticed

    def _add(
        self, name: str, at: BinIndices, times_ms: TimesMs, chances: Ranks, cells: BinIndices
    ) -> list[tuple[int, ObservedChange]]:
        if not len(at):
            return []
        return [
            (int(at[row]), self._noticed(name, change))
            for row, change in self._watchers[name].add(times_ms[at], chances[at], cells)
        ]

    def _in_segment(self, name: str, cells: BinIndices) -> BinIndices:
        segment = self._segments[name]
        return np.flatnonzero(cells[:, segment.feature] == segment.bin)

    def flush(self) -> list[ObservedChange]:
        """Watch what is held, at the end of a window."""
        return [
            self._noticed(name, change)
            for name, watcher in self._watchers.items()
            for change in watcher.flush()
        ]

    def state(self) -> dict[str, WatcherState]:
        """Return what `__init__` takes."""
        return {name: watcher.state() for name, watcher in self._watchers.items()}

    def pairs_state(self) -> bytes | None:
        """Return what `__init__` takes as well."""
        return self._pairs.state() if self._pairs else None

    def _relation(self, found: PairChange) -> ObservedChange:
        subject = relation(self._features[found.first], self._features[found.second])
        text = relation_text(subject, found.correlation, found.correlation_before)
        return ObservedChange("relation", subject, "", found.change, text)

    def _noticed(self, name: str, change: DetectedChange) -> ObservedChange:
        if name == SCORE:
            return ObservedChange("score", SCORE, "", change)
        return ObservedChange("feature", self._features[change.stream], name, change)


def _without_counts(references: Sequence[FeatureReference]) -> list[FeatureReference]:
    """Return the same cells with nothing known: the reference tells nothing of a segment but its own past."""
    return [
        msgspec.structs.replace(each, counts=[0] * len(each.counts), missing=0, seasons={})
        for each in references
    ]


class LossWatchers:
    """Watches the champion's losses: ours for harm within the budget, and the declared ones of river."""

    def __init__(
        self,
        baseline: LossBaseline,
        design_effect: float,
        monitoring: Monitoring,
        streams: int,
        states: Mapping[str, bytes] | None = None,
    ) -> None:
        """Start calm, or from states; without a baseline no loss is watched for harm."""
        self._detectors: dict[str, Detector] = {}
        self._range = baseline.range
        if self._range is not None and baseline.limit is not None:
            share = self._range.share(baseline.limit)
            self._detectors[HARM] = HarmDetector(share, streams * monitoring.patience_ms, design_effect)
        if monitoring.detectors:
            from services.drift.detectors.river_detectors import RiverDetector

            self._detectors |= {f"river-{name}": RiverDetector(name, 1) for name in monitoring.detectors}
        for name in self._detectors.keys() & (states or {}).keys():
            self._detectors[name].restore((states or {})[name])

    def add(self, loss: float, time_ms: int, *, wrong: bool) -> list[tuple[str, DetectedChange]]:
        """Take one loss; those that judge errors get whether the answer was wrong."""
        if self._range is None:
            return []
        times_ms = np.array([time_ms], dtype=np.int64)
        share = self._range.share(loss)
        found = []
        for name, detector in self._detectors.items():
            value = float(wrong) if detector.judges_errors else share
            found += [(name, change) for change in detector.update(np.array([[value]]), times_ms)]
        return found

    def state(self) -> dict[str, bytes]:
        """Return what `__init__` takes."""
        return {name: detector.state() for name, detector in self._detectors.items()}
