"""Watches every prediction and every loss as it comes: which detectors look at what, and what they found."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import mmh3
import msgspec
import numpy as np

from services.drift.cells import Places
from services.drift.detection import Change, Detector
from services.drift.edetector import EDetector, HarmDetector
from services.drift.ranks import Ranking
from services.model import Monitoring
from services.seasons import seasons_of
from streams.records import FeatureReference, FeatureValue, Prediction, Reference

ROWS_HELD = 64
"""Rows watched together, at the latest at the end of a window; a multiple of `edetector.STEP_ROWS`."""
SEGMENTS_MAX = 20
"""Values watched apart, the most frequent ones of each declared feature."""
SEASONS_MAX = 400
"""Seasons of one feature with counts of their own; further ones share the last."""
LOSS_MAX = 4.0
"""Losses are cut here, which lowers their mean: an alarm of harm is never due to the cut."""
HARM = "harm"
SCORE = "score"
_CHANCES = 2**32


class WatcherState(msgspec.Struct, array_like=True):
    """All that a `Watcher` knows."""

    known: bytes
    """Counts (n_features, n_seasons, n_cells)."""
    seasons: list[list[int]]
    """By feature: the seasons in the order of their counts."""
    detector: bytes
    rows: list[tuple[int, float, list[FeatureValue]]]
    """Not yet watched: event time, chance, values."""


class Watcher:
    """Ranks the rows of some features among the reference, each in its season, and bets on the ranks."""

    def __init__(
        self, references: Sequence[FeatureReference], threshold_ms: float, state: WatcherState | None = None
    ) -> None:
        """Start calm, or from a state with the same references."""
        self.features = [reference.feature for reference in references]
        self._season_parts = [reference.season for reference in references]
        self._places = [Places(reference) for reference in references]
        self._seasons = [[int(season) for season in reference.seasons] or [0] for reference in references]
        counts = self._counts(references)
        self._ranking = Ranking(counts)
        effects = np.array([reference.design_effect for reference in references])
        self._detector: Detector = EDetector(len(references), threshold_ms, effects)
        self._rows: list[tuple[int, float, list[FeatureValue]]] = []
        if state is not None:
            self._seasons = [list(seasons) for seasons in state.seasons]
            known = np.frombuffer(state.known, dtype=np.int64)
            shape = (len(references), -1, counts.shape[2])
            self._ranking = Ranking(counts, known.reshape(shape))
            self._detector.restore(state.detector)
            self._rows = list(state.rows)

    def add(self, time_ms: int, chance: float, values: list[FeatureValue]) -> list[Change]:
        """Take one row; return changes when enough rows are there."""
        self._rows.append((time_ms, chance, values))
        return self.watch() if len(self._rows) >= ROWS_HELD else []

    def watch(self) -> list[Change]:
        """Watch the rows that are held."""
        if not self._rows:
            return []
        times, chances, rows = zip(*self._rows, strict=True)
        self._rows = []
        times_ms = np.array(times, dtype=np.int64)
        columns = zip(*rows, strict=True)
        cells = np.stack(
            [places.of(column) for places, column in zip(self._places, columns, strict=True)], axis=1
        )
        ranks = self._ranking.rank(cells, np.array(chances), self._season_places(times_ms))
        changes = self._detector.update(ranks, times_ms)
        for change in changes:
            self._ranking.reset(change.stream)
        return changes

    def state(self) -> WatcherState:
        """Return what `__init__` takes."""
        return WatcherState(
            self._ranking.known.tobytes(), self._seasons, self._detector.state(), list(self._rows)
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
class Noticed:
    """A change with what it is about."""

    kind: Literal["feature", "score"]
    subject: str
    """A feature, or ``score``."""
    segment: str
    """``origin=EWR``, or empty."""
    change: Change


class Watchers:
    """Watches the features and the champion's scores against the reference, segments against their past."""

    def __init__(
        self,
        reference: Reference | None,
        monitoring: Monitoring,
        states: Mapping[str, WatcherState] | None = None,
    ) -> None:
        """Start calm, or from states; without a reference there is nothing to watch."""
        features = reference.features if reference else []
        self._width = len(features)
        self._segments = {
            number: values
            for number, each in enumerate(features)
            if (values := _segments(each, monitoring.segments))
        }
        names = [
            "",
            *(f"{features[at].feature}={value}" for at, found in self._segments.items() for value in found),
        ]
        watched = {name: _without_counts(features) if name else features for name in names if features}
        if reference is not None and reference.score is not None:
            watched[SCORE] = [reference.score]
        self.streams = sum(map(len, watched.values())) + 1
        """How many share the budget; the last one is the loss."""
        threshold_ms = self.streams * monitoring.patience_ms
        kept = states or {}
        self._watchers = {name: Watcher(each, threshold_ms, kept.get(name)) for name, each in watched.items()}
        self._features = features

    def add(self, prediction: Prediction, *, of_champion: bool) -> list[Noticed]:
        """Take one prediction, in the common order."""
        time_ms, values = prediction.event_time_ms, prediction.features
        chance = (mmh3.hash(prediction.prediction_id, signed=False) + 0.5) / _CHANCES
        noticed: list[Noticed] = []
        if self._width and len(values) == self._width:
            for name in ("", *self._segments_of(values)):
                noticed += self._noticed(name, self._watchers[name].add(time_ms, chance, values))
        if of_champion and SCORE in self._watchers:
            noticed += self._noticed(SCORE, self._watchers[SCORE].add(time_ms, chance, [prediction.score]))
        return noticed

    def watch(self) -> list[Noticed]:
        """Watch what is held, at the end of a window."""
        return [
            each for name, watcher in self._watchers.items() for each in self._noticed(name, watcher.watch())
        ]

    def state(self) -> dict[str, WatcherState]:
        """Return what `__init__` takes."""
        return {name: watcher.state() for name, watcher in self._watchers.items()}

    def _segments_of(self, values: Sequence[FeatureValue]) -> Iterator[str]:
        for number, known in self._segments.items():
            if (value := str(values[number])) in known:
                yield f"{self._features[number].feature}={value}"

    def _noticed(self, name: str, changes: Sequence[Change]) -> list[Noticed]:
        features = self._watchers[name].features
        if name == SCORE:
            return [Noticed("score", SCORE, "", change) for change in changes]
        return [Noticed("feature", features[change.stream], name, change) for change in changes]


def _without_counts(references: Sequence[FeatureReference]) -> list[FeatureReference]:
    """Return the same cells with nothing known: the reference tells nothing of a segment but its own past."""
    return [
        msgspec.structs.replace(each, counts=[0] * len(each.counts), missing=0, seasons={})
        for each in references
    ]


def _segments(reference: FeatureReference, declared: Sequence[str]) -> list[str]:
    """Return the most frequent values of a declared feature of categories."""
    if reference.feature not in declared or reference.categories is None:
        return []
    found = sorted(
        zip(reference.counts, reference.categories, strict=True), key=lambda each: (-each[0], each[1])
    )
    return [name for _, name in found[: SEGMENTS_MAX // len(declared)]]


class LossWatchers:
    """Watches the champion's losses: ours for harm within the budget, and the declared ones of river."""

    def __init__(
        self,
        reference: Reference | None,
        monitoring: Monitoring,
        streams: int,
        states: Mapping[str, bytes] | None = None,
    ) -> None:
        """Start calm, or from states; without a reference no loss is harm."""
        self._detectors: dict[str, Detector] = {}
        if reference is not None:
            limit = (reference.log_loss + monitoring.loss_tolerance) / LOSS_MAX
            self._detectors[HARM] = HarmDetector(
                limit, streams * monitoring.patience_ms, reference.loss_design_effect
            )
        if monitoring.detectors:
            from services.drift.river_detectors import RiverDetector

            self._detectors |= {f"river-{name}": RiverDetector(name, 1) for name in monitoring.detectors}
        for name in self._detectors.keys() & (states or {}).keys():
            self._detectors[name].restore((states or {})[name])

    def add(self, loss: float, time_ms: int, *, wrong: bool) -> list[tuple[str, Change]]:
        """Take one loss; those that judge errors get whether the answer was wrong."""
        times_ms = np.array([time_ms], dtype=np.int64)
        share = min(loss / LOSS_MAX, 1.0)
        found = []
        for name, detector in self._detectors.items():
            value = float(wrong) if detector.judges_errors else share
            found += [(name, change) for change in detector.update(np.array([[value]]), times_ms)]
        return found

    def state(self) -> dict[str, bytes]:
        """Return what `__init__` takes."""
        return {name: detector.state() for name, detector in self._detectors.items()}
