"""Counts and sums of one window of event time, in memory that does not grow with its predictions."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.binning import data_quality
from services.drift.binning.bin_counts import BinCounts, seasonal_counts
from services.drift.binning.binning import BinnedRows, PredictionRows, RowBinner
from services.drift.binning.data_quality import FAULTS
from services.drift.binning.segment_counts import SegmentCounts, SegmentFeature
from services.drift.binning.statistics import Counts
from services.drift.binning.value_sums import ValueSums, ValueSumsState
from services.drift.performance.exact_sums import ExactMean
from services.drift.windows import contributions
from services.drift.windows.arm_sums import ArmKey, ArmSumsState
from services.drift.windows.measure_sums import NOT_COMPARED, Comparison, MeasureSums, block_of, blocks_of
from services.drift.windows.output_counts import OutputCounts
from services.drift.windows.window_arms import WindowArms
from services.model_registry.traffic_split import CHAMPION
from services.monitoring.pending_predictions import PendingPrediction
from services.monitoring.rank_correlation import Moments
from services.monitoring.reference import PREDICTION, SCORE
from services.monitoring.seasons import seasons_of
from streams import records

LATE_BUFFERED_MAX = 1024
"""Late predictions buffered until they are binned together: 30 times cheaper than one by one."""


class BinCountsState(msgspec.Struct, array_like=True):
    """Counts of one feature."""

    counts: list[int]
    unseen: dict[str, int]


class SegmentState(msgspec.Struct, array_like=True):
    """The counts and sums of one segment in a window."""

    predictions: int = 0
    scores: list[int] = []
    """Scores of the window's version, in the bins of all scores."""
    labels: int = 0
    """Set only in states of older versions, as ``losses`` is; now the arms have both."""
    losses: ExactMean = msgspec.field(default_factory=ExactMean)
    bin_counts: list[int] = []
    """Bin counts of the features that the reference describes by segment, one after the other."""


class DriftWindowState(msgspec.Struct):
    """The state of a `DriftWindow` in a snapshot."""

    start_ms: int
    end_ms: int
    version: int | None = None
    """The champion against whose reference the window is compared; null before its first prediction."""
    champion: int = 0
    """The champion when the window was closed."""
    predictions: int = 0
    """Predictions of all arms."""
    labels: int = 0
    """Set only in states of older versions, as all fields up to ``shadows``: see `adopt_older_sums`."""
    losses: ExactMean = msgspec.field(default_factory=ExactMean)
    measures: list[ExactMean] = []
    answers: int = 0
    answers_right: int = 0
    shadows: dict[str, ExactMean] = {}
    bin_counts: list[BinCountsState] = msgspec.field(default_factory=list, name="cells")
    score_bin_counts: BinCountsState | None = msgspec.field(default=None, name="score_cells")
    prediction_bin_counts: BinCountsState | None = None
    """Multiclass: the predicted classes."""
    season_rows: dict[str, dict[int, int]] = {}
    """Rows by season, for each feature with seasons."""
    pairs: records.PairReference | None = None
    """The rank correlations of the features, as sums."""
    segments: dict[str, SegmentState] = {}
    reports: int = 0
    """Number of reports so far, which is the next revision."""
    is_touched: bool = False
    """Whether late records have changed the window since its last report."""
    alarms_standing: list[str] | None = None
    """Ids of the alarms that were active when the window was closed."""
    faults: list[list[int]] = []
    """Values by `Fault`, for each feature with quality rules."""
    rules: list[str] = []
    """The rules of ``faults``, each with its feature and its bounds; see `FeatureRules.key`."""
    arms: list[ArmSumsState] = []
    """Predictions and labels by arm and version."""
    fallbacks: dict[str, int] = {}
    """Requests of each arm that the champion answered."""
    values: list[ValueSumsState] | None = None
    """Sums of the numeric features, then of the score; null where an older version counted some rows."""


class DriftWindow:
    """Counts the predictions and labels of one window of event time.

    All counts are integers and all sums are exact, so the result depends only on the records that were added,
    not on their order, their slices or their lateness.
    """

    def __init__(self, state: DriftWindowState, row_binner: RowBinner | None = None) -> None:
        """Start empty, or from a snapshot; ``row_binner`` is that of ``state.version``."""
        self.state = state
        self.start_ms = state.start_ms
        self.end_ms = state.end_ms
        self.row_binner: RowBinner | None = None
        self.features: list[BinCounts] = []
        self.outputs = OutputCounts(None, {})
        self.pairs: Moments | None = None
        self.values: ValueSums | None = None
        """Sums of the numeric features; None where an older version counted some rows."""
        self.score_values: ValueSums | None = None
        self.segment_counts = SegmentCounts((), (), {})
        self.arms = WindowArms(state.arms)
        self._late: list[records.Prediction] = []
        self.faults = np.zeros((0, FAULTS), dtype=np.int64)
        self._set_row_binner(row_binner)

    def choose_version(self, version: int, row_binner: RowBinner | None) -> None:
        """Set the champion with whose reference this window is compared, unless it is set already."""
        if self.state.version is None:
            self.state.version = version
            self._set_row_binner(row_binner)

    def count(self, rows: PredictionRows, binned: BinnedRows | None, start: int, stop: int) -> None:
        """Count the predictions ``start`` to ``stop`` of the rows.

        Args:
            rows: Rows on time, all of them within the window.
            binned: The same rows, binned by ``row_binner``; None without a reference.
            start: The first row to count.
            stop: The row after the last one to count.
        """
        self.state.predictions += stop - start
        blocks = blocks_of(rows.times_ms[start:stop], self.start_ms, self.end_ms).tolist()
        self.arms.count(rows.predictions[start:stop], blocks, self.state.fallbacks)
        if binned is None:
            return
        part = slice(*np.searchsorted(binned.rows, (start, stop)).tolist())
        bins = binned.bins[part]
        for number, feature in enumerate(self.features):
            feature.add_binned(bins[:, number], binned.columns[number][part])
        if self.values is not None:
            self.values.add(binned.values[:, part])
        if self.pairs is not None:
            self.pairs.add(binned.pair_scores[part])
        indices = binned.rows[part]
        self._count_seasons(rows.times_ms[indices])
        of_version = binned.answered
        self.faults += data_quality.count_faults(binned.faults[part])
        champions = np.flatnonzero(of_version[start:stop]) + start
        self.outputs.add(rows, binned, champions)
        if self.score_values is not None:
            self.score_values.add(binned.score_values[None, champions])
        for name, segment in binned.segments.items():
            is_inside = bins[:, segment.feature] == segment.bin
            inside = indices[is_inside]
            self.segment_counts.add(name, bins[is_inside])
            state = self.state.segments.setdefault(name, SegmentState())
            state.predictions += len(inside)
            if self.outputs.score is not None:
                size = len(self.outputs.score.counts)
                scores = np.bincount(binned.outputs[SCORE][inside[of_version[inside]]], minlength=size)
                state.scores = (np.array(state.scores or 0) + scores).tolist()

    def count_late(self, prediction: records.Prediction) -> None:
        """Count a prediction that arrived after the window closed; such predictions are binned together."""
        self._late.append(prediction)
        if len(self._late) >= LATE_BUFFERED_MAX:
            self.count_buffered()

    def count_buffered(self) -> None:
        """Count the buffered late predictions."""
        if self._late:
            rows = PredictionRows(self._late)
            self.count(rows, self.row_binner.assign(rows) if self.row_binner else None, 0, len(rows))
            self._late = []

    def add_outcome(
        self,
        entry: PendingPrediction,
        outcome: records.Outcome,
        values: Sequence[float] | None,
        shadow_values: Mapping[ArmKey, Sequence[float]],
        comparison: Comparison = NOT_COMPARED,
    ) -> None:
        """Add one label that became known in this window.

        Args:
            entry: Its prediction.
            outcome: The record of both.
            values: The value of each measure; None without a score.
            shadow_values: The same of each shadow that has a score.
            comparison: What the losses are compared with.
        """
        is_right = None if entry.predicted is None else entry.predicted == outcome.label
        arm = self.arms.of(ArmKey(entry.arm, entry.version))
        arm.add(values, outcome.loss, entry.segments, is_right=is_right)
        block = block_of(outcome.label_time_ms, self.start_ms, self.end_ms)
        if values is not None:
            arm.compare(comparison.own(values[0], block))
        for key, each in shadow_values.items():
            shadow = self.arms.of(key)
            shadow.add(each)
            if values is not None and comparison.lineage is not None:
                shadow.compare(comparison.paired(each[0], values[0], block), comparison.lineage)

    def seasonal_references(self) -> list[Counts]:
        """Return the counts to compare each feature with: the reference, mixed by the window's seasons."""
        return [
            seasonal_counts(reference, feature, self.state.season_rows.get(reference.feature, {}))
            for reference, feature in zip(self._references(), self.features, strict=True)
        ]

    def segment_features(self) -> Iterator[tuple[float, SegmentFeature]]:
        """Yield the features within segments, each with the segment's share of the predictions."""
        for name in self.segment_counts.counts:
            segment = self.state.segments.get(name)
            if segment is not None:
                share = segment.predictions / max(self.state.predictions, 1)
                yield from ((share, inside) for inside in self.segment_counts.features(name))

    def contributions(self, feature: str, segment: str = "") -> list[records.Contribution]:
        """Return the bins of one feature that differ most so far; empty if there is no such feature.

        Within the segment if the reference describes it, else over all rows.
        """
        for inside in self.segment_counts.features(segment):
            if inside.counted.name == feature:
                return contributions.of_feature(inside)
        for reference, counted in zip(self._references(), self.features, strict=True):
            if counted.name == feature and counted.counts.sum():
                expected = seasonal_counts(reference, counted, self.state.season_rows.get(feature, {}))
                return contributions.of_feature(SegmentFeature("", counted, expected))
        return []

    def snapshot(self) -> DriftWindowState:
        """Return the state for a snapshot, which `__init__` takes."""
        self.count_buffered()
        self.state.arms = self.arms.states()
        self.state.bin_counts = [_state_of(each) for each in self.features]
        states = {name: _state_of(each) for name, each in self.outputs.counts.items()}
        self.state.score_bin_counts = states.get(SCORE)
        self.state.prediction_bin_counts = states.get(PREDICTION)
        self.state.values = None
        if self.values is not None:
            self.state.values = self.values.states() + (
                self.score_values.states() if self.score_values is not None else []
            )
        self.state.pairs = self.pairs.reference() if self.pairs else None
        self.state.faults = self.faults.tolist()
        self.state.rules = self.row_binner.rules.keys if self.row_binner else []
        for name, counts in self.segment_counts.counts.items():
            if name in self.state.segments:
                self.state.segments[name].bin_counts = counts.tolist()
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
        self.features = _restore(reference.features, self.state.bin_counts)
        stored = {
            name: each.bin_counts if (each := self.state.segments.get(name)) else ()
            for name in row_binner.segments
        }
        self.segment_counts = SegmentCounts(reference.features, self.features, stored)
        outputs = {SCORE: self.state.score_bin_counts, PREDICTION: self.state.prediction_bin_counts}
        self.outputs = OutputCounts(
            reference, {name: (each.counts, each.unseen) for name, each in outputs.items() if each}
        )
        self._restore_values()
        stored_faults = dict(zip(self.state.rules, self.state.faults, strict=False))  # without rules: unknown
        self.faults = np.array(
            [stored_faults.get(key, [0] * FAULTS) for key in row_binner.rules.keys], dtype=np.int64
        ).reshape(-1, FAULTS)
        if reference.pairs is not None:
            pairs = self.state.pairs
            self.pairs = Moments.of_reference(pairs) if pairs else Moments.none(len(reference.pairs.sums))

    def _restore_values(self) -> None:
        """Restore the sums of values, or start them; not if rows were counted without them."""
        ranges = [each.binner.range for each in self.features if each.numeric]
        stored = self.state.values
        if stored is None and self.state.bin_counts:
            return
        self.values = ValueSums(ranges, (stored or [])[: len(ranges)])
        if (score := self.outputs.score) is not None:
            self.score_values = ValueSums([score.binner.range], (stored or [])[len(ranges) :])


def adopt_older_sums(state: DriftWindowState) -> None:
    """Move the sums over labels of a state of an older version to the champion's arm, in place.

    They held the labels of all arms, without squares.
    """
    if not state.labels:
        return
    version = state.champion if state.version is None else state.version
    arm = ArmSumsState(CHAMPION, version, False, 0, state.labels, state.answers, state.answers_right)
    arm.measures = [MeasureSums(total) for total in state.measures]
    for name, segment in state.segments.items():
        if segment.labels:
            arm.segment_labels[name], arm.segment_losses[name] = segment.labels, segment.losses
            segment.labels, segment.losses = 0, ExactMean()
    shadows = [
        ArmSumsState(name, 0, shadow=True, labels=losses.count, measures=[MeasureSums(losses)])
        for name, losses in state.shadows.items()
    ]
    state.arms = [arm, *shadows]
    state.labels = state.answers = state.answers_right = 0
    state.losses, state.measures, state.shadows = ExactMean(), [], {}


def _restore(
    references: Sequence[records.FeatureReference], stored: Sequence[BinCountsState]
) -> list[BinCounts]:
    if not stored:
        return [BinCounts(reference) for reference in references]
    return [
        BinCounts(reference, each.counts, each.unseen.items())
        for reference, each in zip(references, stored, strict=True)
    ]


def _state_of(counted: BinCounts) -> BinCountsState:
    return BinCountsState(counted.counts.tolist(), counted.unseen)
