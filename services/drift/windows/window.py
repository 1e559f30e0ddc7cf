"""A window: what its report will need, in memory that does not grow with its predictions."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.binning import data_quality
from services.drift.binning.bin_counts import BinCounts, seasonal
from services.drift.binning.binning import BinnedRows, PredictionRows, RowBinner
from services.drift.binning.data_quality import FAULTS
from services.drift.binning.segment_counts import SegmentCounts, SegmentFeature
from services.drift.binning.statistics import Counts
from services.drift.performance.exact_sums import ExactMean
from services.drift.windows import contributions
from services.monitoring.label_join import PendingPrediction
from services.monitoring.rank_correlation import Moments
from services.monitoring.seasons import seasons_of
from streams import records

LATE_HELD_MAX = 1024
"""Late predictions kept until they are placed together: 30 times cheaper than one by one."""


class BinCountsState(msgspec.Struct, array_like=True):
    """Counts of one feature."""

    counts: list[int]
    unseen: dict[str, int]


class SegmentState(msgspec.Struct, array_like=True):
    """What a window counts of one segment."""

    predictions: int = 0
    scores: list[int] = []
    """Of the window's version, in the cells of all scores."""
    labels: int = 0
    losses: ExactMean = msgspec.field(default_factory=ExactMean)
    cells: list[int] = []
    """Of the features of which the reference tells segments apart, one after the other."""


class DriftWindowState(msgspec.Struct):
    """All that a `DriftWindow` knows."""

    start_ms: int
    end_ms: int
    version: int | None = None
    """The champion against whose reference the window is compared; null before its first prediction."""
    champion: int = 0
    """When it was closed."""
    predictions: int = 0
    labels: int = 0
    losses: ExactMean = msgspec.field(default_factory=ExactMean)
    measures: list[ExactMean] = []
    answers: int = 0
    """Labels of predictions that gave an answer."""
    answers_right: int = 0
    shadows: dict[str, ExactMean] = {}
    """By arm: the log losses of the shadow's answers."""
    cells: list[BinCountsState] = []
    score_cells: BinCountsState | None = None
    season_rows: dict[str, dict[int, int]] = {}
    """By feature with a season: how many rows were in which."""
    pairs: records.PairReference | None = None
    """How the features went together."""
    segments: dict[str, SegmentState] = {}
    reports: int = 0
    """How often it was reported: the next revision."""
    is_touched: bool = False
    """Late records have changed it since its last report."""
    alarms_standing: list[str] | None = None
    """When it was closed."""
    faults: list[list[int]] = []
    """By feature of which something is declared: values by what is wrong with them."""


class DriftWindow:
    """Counts predictions and labels of one stretch of event time.

    All counts are integers and all sums exact: what a window says depends on what was counted, not on
    the order, the slices or how late it came.
    """

    def __init__(self, state: DriftWindowState, row_binner: RowBinner | None = None) -> None:
        """Start empty, or from a snapshot. The cells are those of ``state.version``."""
        self.state = state
        self.start_ms = state.start_ms
        self.end_ms = state.end_ms
        self.row_binner: RowBinner | None = None
        self.features: list[BinCounts] = []
        self.score: BinCounts | None = None
        self.pairs: Moments | None = None
        self.within = SegmentCounts((), (), {})
        self._late: list[records.Prediction] = []
        self.faults = np.zeros((0, FAULTS), dtype=np.int64)
        self._set_row_binner(row_binner)

    def choose_version(self, version: int, row_binner: RowBinner | None) -> None:
        """Fix the champion against whose reference this window is compared; the first choice stands."""
        if self.state.version is None:
            self.state.version = version
            self._set_row_binner(row_binner)

    def count(self, rows: PredictionRows, placed: BinnedRows | None, start: int, stop: int) -> None:
        """Count the predictions of a part of the rows, placed by `row_binner`; None without one.

        Features that are not those of the reference are left out.
        """
        self.state.predictions += stop - start
        if placed is None:
            return
        first, last = np.searchsorted(placed.rows, (start, stop)).tolist()
        counted = placed.cells[first:last]
        for number, cells in enumerate(self.features):
            cells.count(counted[:, number], placed.columns[number][first:last])
        if self.pairs is not None:
            self.pairs.add(placed.pair_scores[first:last])
        fitting = placed.rows[first:last]
        self._count_seasons(rows.times_ms[fitting])
        own = rows.versions == self.state.version
        self.faults += data_quality.count(placed.faults[first:last])
        if self.score is not None and placed.scores is not None:
            self.score.count(placed.scores[start:stop][own[start:stop]], ())
        for name, segment in placed.segments.items():
            is_inside = counted[:, segment.feature] == segment.bin
            inside = fitting[is_inside]
            self.within.count(name, counted[is_inside])
            state = self.state.segments.setdefault(name, SegmentState())
            state.predictions += len(inside)
            if self.score is not None and placed.scores is not None:
                scores = np.bincount(placed.scores[inside[own[inside]]], minlength=len(self.score.counts))
                state.scores = (np.array(state.scores or 0) + scores).tolist()

    def count_late(self, prediction: records.Prediction) -> None:
        """Count a prediction that came after the window was closed; those are placed together."""
        self._late.append(prediction)
        if len(self._late) >= LATE_HELD_MAX:
            self.settle()

    def settle(self) -> None:
        """Count the late predictions that are held."""
        if self._late:
            rows = PredictionRows(self._late)
            self.count(rows, self.row_binner.of(rows) if self.row_binner else None, 0, len(rows))
            self._late = []

    def add_outcome(
        self,
        entry: PendingPrediction,
        outcome: records.Outcome,
        values: Sequence[float] | None,
        shadow_losses: dict[str, float],
    ) -> None:
        """Count one label that became known in this window, with the values of its measures, if any."""
        state = self.state
        state.labels += 1
        if outcome.loss is not None:
            state.losses.add(outcome.loss)
        if values is not None:
            state.measures = state.measures or [ExactMean() for _ in values]
            for mean, value in zip(state.measures, values, strict=True):
                mean.add(value)
        if entry.predicted is not None:
            state.answers += 1
            state.answers_right += entry.predicted == outcome.label
        for arm, loss in shadow_losses.items():
            state.shadows.setdefault(arm, ExactMean()).add(loss)
        for name in entry.segments:
            segment = state.segments.setdefault(name, SegmentState())
            segment.labels += 1
            if outcome.loss is not None:
                segment.losses.add(outcome.loss)

    def seasonal_references(self) -> list[Counts]:
        """Return for each feature what to compare with: the reference, its seasons mixed as the window's."""
        return [
            seasonal(reference, cells, self.state.season_rows.get(reference.feature, {}))
            for reference, cells in zip(self._references(), self.features, strict=True)
        ]

    def parts(self) -> Iterator[tuple[float, SegmentFeature]]:
        """Yield the features within segments, each with the segment's share of the predictions."""
        for name in self.within.counts:
            segment = self.state.segments.get(name)
            if segment is not None:
                share = segment.predictions / max(self.state.predictions, 1)
                yield from ((share, part) for part in self.within.parts(name))

    def contributions(self, feature: str, segment: str = "") -> list[records.Contribution]:
        """Return the bins of one feature that differ most so far; none of what is no feature.

        Those within a segment, where the reference tells it apart; else those of all rows.
        """
        for part in self.within.parts(segment):
            if part.cells.name == feature:
                return contributions.of_part(part)
        for reference, cells in zip(self._references(), self.features, strict=True):
            if cells.name == feature and cells.counts.sum():
                known = seasonal(reference, cells, self.state.season_rows.get(feature, {}))
                return contributions.of_part(SegmentFeature("", cells, known))
        return []

    def snapshot(self) -> DriftWindowState:
        """Return what `__init__` takes."""
        self.settle()
        self.state.cells = [_state_of(cells) for cells in self.features]
        self.state.score_cells = _state_of(self.score) if self.score else None
        self.state.pairs = self.pairs.reference() if self.pairs else None
        self.state.faults = self.faults.tolist()
        for name, counts in self.within.counts.items():
            if name in self.state.segments:
                self.state.segments[name].cells = counts.tolist()
        return self.state

    def _references(self) -> Sequence[records.FeatureReference]:
        return self.row_binner.reference.features if self.row_binner else ()

    def _count_seasons(self, times_ms: npt.NDArray[np.int64]) -> None:
        for reference in self._references():
            if reference.season:
                rows = self.state.season_rows.setdefault(reference.feature, {})
                found, counts = np.unique(seasons_of(times_ms, reference.season), return_counts=True)
                for season, count in zip(found.tolist(), counts.tolist(), strict=True):
                    rows[season] = rows.get(season, 0) + count

    def _set_row_binner(self, row_binner: RowBinner | None) -> None:
        self.row_binner = row_binner
        if row_binner is None:
            return
        reference = row_binner.reference
        self.features = _restore(reference.features, self.state.cells)
        kept_segments = {
            name: each.cells if (each := self.state.segments.get(name)) else ()
            for name in row_binner.segments
        }
        self.within = SegmentCounts(reference.features, self.features, kept_segments)
        if reference.score is not None:
            kept = self.state.score_cells
            self.score = _restore([reference.score], [kept] if kept else [])[0]
        self.faults = np.zeros((len(row_binner.rules.rules), FAULTS), dtype=np.int64)
        if self.state.faults:
            self.faults += np.array(self.state.faults)
        if reference.pairs is not None:
            counted = self.state.pairs
            self.pairs = Moments.of_reference(counted) if counted else Moments.none(len(reference.pairs.sums))


def _restore(
    references: Sequence[records.FeatureReference], kept: Sequence[BinCountsState]
) -> list[BinCounts]:
    if not kept:
        return [BinCounts(reference) for reference in references]
    return [
        BinCounts(reference, cells.counts, cells.unseen.items())
        for reference, cells in zip(references, kept, strict=True)
    ]


def _state_of(cells: BinCounts) -> BinCountsState:
    return BinCountsState(cells.counts.tolist(), cells.unseen)
