"""A cohort: the sums over the predictions of one stretch of event time, exact in any order. Pure.

Predictions and labels may be added in any order and in any batches: values within their range are whole steps
of 1 / `SHARE_STEPS`, raw values are rounded to 1 / `RAW_STEPS` of a unit. So sums of doubles are exact up to
8e9 units, and the sums of two halves of the rows add up to the sums of all rows.
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.performance.label_maturity import DELAY_CELLS
from services.drift.performance.performance_estimation import LABELS, MEASURES, POSITIVES
from services.monitoring.model_metrics import MeasureRange

SLOTS = 24
"""Equal parts of a cohort's time: each prediction is taken to be as young as the end of its slot."""
SHARE_STEPS = 2**14
RAW_STEPS = 2**20
RAW, RAW_SQUARES, SHARES, SHARE_SQUARES = range(4)
"""Columns of the moments: sums and sums of squares of the values, and of their shares of their range."""

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


PredictionRow = tuple[int, float, Sequence[str]]
"""A prediction: its event time, its score, and the segments to which it belongs."""


class LabelRole(enum.IntEnum):
    """What a label is to the sums of its cohort."""

    FIRST = 0
    """The first label of its prediction."""
    CORRECTION = 1
    """A later label, which takes the place of another one."""
    REPLACED = -1
    """The label whose place a correction takes."""


class LabelledRow(NamedTuple):
    """A prediction whose label has come."""

    segments: Sequence[str]
    cell: int
    """The cell of its score."""
    group: int
    """The group of its label; see `early_losses`."""
    delay_cell: int | None
    """None: unknown, of a label that is replaced."""
    positive: float
    values: list[float]
    """Values of the measures, in their order."""
    outcome: int = 0
    """Number of its outcome; see `outcome_counts`."""
    role: LabelRole = LabelRole.FIRST


class SegmentSumsState(msgspec.Struct, array_like=True):
    """All that a `SegmentSums` knows."""

    predictions: int
    labels: int
    scores: list[int]
    moments: list[list[float]]
    taken_labels: int
    taken: list[list[float]]
    estimates: list[float]
    estimated_auc: float | None
    outcomes: list[int] = []
    estimated_positives: float | None = None


class SegmentSums:
    """The sums of one segment of a cohort, or of all its predictions."""

    def __init__(
        self, cells: int, measures: int, state: SegmentSumsState | None = None, outcomes: int = 0
    ) -> None:
        """Start empty, or from a state."""
        self.predictions = state.predictions if state else 0
        self.labels = state.labels if state else 0
        self.scores: Counts = np.array(state.scores if state else [0] * cells, dtype=np.int64)
        """Predictions by cell of their score ``(n_cells,)``."""
        zeros = [[0.0] * 4] * measures
        self.moments: Numbers = np.array(state.moments if state else zeros, dtype=np.float64)
        """Sums for each measure ``(n_measures, 4)``."""
        self._taken_labels = state.taken_labels if state else 0
        self._taken: Numbers = np.array(state.taken if state else zeros, dtype=np.float64)
        """Moments that the running figures contain already."""
        self.estimates = list(state.estimates) if state else []
        """Estimated mean of each measure, made when the window ended."""
        self.estimated_auc = state.estimated_auc if state else None
        self.estimated_positives = state.estimated_positives if state else None
        """Estimated share of labels of 1, of a binary model."""
        self.outcomes: Counts = np.zeros(outcomes, dtype=np.int64)
        """Labels by outcome ``(n_outcomes,)``; empty if an older version has not counted some."""
        if state is not None and (state.labels or state.outcomes):
            known = state.outcomes if len(state.outcomes) == outcomes else []
            self.outcomes = np.array(known, dtype=np.int64)

    def take_new(self) -> tuple[int, Numbers]:
        """Return the labels and the moments ``(n_measures, 4)`` added since the last call."""
        new = self.labels - self._taken_labels, self.moments - self._taken
        self._taken_labels, self._taken = self.labels, self.moments.copy()
        return new

    def state(self) -> SegmentSumsState:
        """Return what `__init__` takes."""
        return SegmentSumsState(
            self.predictions,
            self.labels,
            self.scores.tolist(),
            self.moments.tolist(),
            self._taken_labels,
            self._taken.tolist(),
            self.estimates,
            self.estimated_auc,
            self.outcomes.tolist(),
            self.estimated_positives,
        )


class CohortState(msgspec.Struct, array_like=True):
    """All that a `PredictionCohort` knows."""

    start_ms: int
    end_ms: int
    version: int
    error_max: float | None
    reports: int
    mature: bool
    reported_labels: int
    reported_version: int
    slots: list[int]
    delays: list[int]
    cells: list[list[float]]
    taken_cells: list[list[float]]
    segments: dict[str, SegmentSumsState]
    early: bool = False
    """Whether its early labels were taken as evidence."""
    group_delays: list[list[int]] = []
    group_sums: list[list[float]] = []
    outside: float | None = None
    """Share of its scores outside those with known results, when it was estimated."""
    corrections: int = 0
    """How often a label was replaced by a later one."""
    reported_corrections: int = 0


class PredictionCohort:
    """The champion's predictions of one window, or of several where the label horizon is long."""

    def __init__(
        self,
        start_ms: int,
        end_ms: int,
        version: int,
        *,
        cells: int,
        measures: int,
        ranges: Sequence[MeasureRange] | None,
        judged: int = 0,
        groups: int = 0,
        error_max: float | None = None,
        outcomes: tuple[int, int] = (0, 0),
        state: CohortState | None = None,
    ) -> None:
        """Start empty, or from a state.

        Args:
            start_ms: First event time of the cohort.
            end_ms: Event time at which the next cohort begins.
            version: The champion's, or its lineage.
            cells: Number of cells of the scores; 0 counts no scores.
            measures: Number of measures.
            ranges: The range of each measure; without them there are no shares, hence no intervals.
            judged: Index of the measure that is summed by group of labels.
            groups: Number of groups of labels.
            error_max: The error scale from which a regression's ranges follow.
            outcomes: Number of outcomes by which labels are counted: of all predictions, within a segment.
            state: A state of the same cohort.
        """
        self.start_ms, self.end_ms, self.version = start_ms, end_ms, version
        self.ranges, self.error_max = ranges, error_max
        self._measures, self._cells, self._judged, self._outcomes = measures, cells, judged, outcomes
        self.reports = state.reports if state else 0
        """Number of reports so far: the revision of the next."""
        self.mature, self.corrections = (state.mature, state.corrections) if state else (False, 0)
        self.reported = (state.reported_labels, state.reported_corrections) if state else (0, 0)
        """Labels and corrections at the last report."""
        self.reported_version = state.reported_version if state else 0
        """The champion's version at the first report; it differs from ``version`` for a continual learner."""
        self.slots: Counts = np.array(state.slots if state else [0] * SLOTS, dtype=np.int64)
        """Predictions by slot."""
        self.delays: Counts = np.array(state.delays if state else [0] * DELAY_CELLS, dtype=np.int64)
        """Labels by cell of their delay."""
        self.early, self.outside = (state.early, state.outside) if state else (False, None)
        self.group_delays: Counts = np.zeros((groups, DELAY_CELLS), dtype=np.int64)
        """Labels by group and cell of their delay."""
        self.group_sums: Numbers = np.zeros((groups, 3))
        """Labels of each group, sums of the judged losses and of their squares ``(n_groups, 3)``."""
        if groups and state is not None and len(state.group_sums) == groups:
            self.group_delays[:], self.group_sums[:] = state.group_delays, state.group_sums
        zeros = [[0.0] * (MEASURES + measures)] * cells
        self.cells: Numbers = np.array(state.cells if state else zeros, dtype=np.float64)
        """Sums over labels by cell of the score ``(n_cells, MEASURES + n_measures)``."""
        self._taken_cells: Numbers = np.array(state.taken_cells if state else zeros, dtype=np.float64)
        self.segments = {
            name: SegmentSums(cells, measures, each, outcomes[bool(name)])
            for name, each in (state.segments if state else {}).items()
        }
        """Sums by name of the segment; the empty name is that of all predictions."""

    @property
    def all(self) -> SegmentSums:
        """The sums of all predictions."""
        return self.segment("")

    def segment(self, name: str) -> SegmentSums:
        """Return the sums of a segment."""
        found = self.segments.get(name)
        if found is None:
            found = SegmentSums(self._cells, self._measures, outcomes=self._outcomes[bool(name)])
            self.segments[name] = found
        return found

    @property
    def has_cells(self) -> bool:
        """Whether scores are counted: their edges were known when the cohort began."""
        return bool(self._cells)

    def forget_cells(self) -> None:
        """Count no scores any more: those of another champion have other cells."""
        self._cells = 0
        self.cells = self._taken_cells = np.zeros((0, MEASURES + self._measures))

    def add_predictions(self, rows: Sequence[PredictionRow], edges: Sequence[float]) -> None:
        """Add predictions; ``edges`` are those of the cells of the scores."""
        times_ms = np.array([time_ms for time_ms, _, _ in rows], dtype=np.int64)
        self.slots += np.bincount(
            (times_ms - self.start_ms) * SLOTS // (self.end_ms - self.start_ms), minlength=SLOTS
        )
        cells = np.searchsorted(edges, [score for _, score, _ in rows], side="right")
        for name, indices in _rows_by_segment([segments for _, _, segments in rows]).items():
            sums = self.segment(name)
            sums.predictions += len(indices)
            if self._cells:
                sums.scores += np.bincount(cells[indices], minlength=self._cells)

    def add_labels(self, rows: Sequence[LabelledRow]) -> None:
        """Add labelled predictions; a row of a label that is replaced removes what it has added."""
        values = np.array([row.values for row in rows], dtype=np.float64)
        signs = np.array([-1 if row.role is LabelRole.REPLACED else 1 for row in rows])
        raw = np.round(values * RAW_STEPS) / RAW_STEPS
        moments = np.zeros((*raw.shape, 4))
        moments[:, :, RAW] = raw
        moments[:, :, RAW_SQUARES] = np.round(raw * raw * RAW_STEPS) / RAW_STEPS
        if self.ranges is not None:
            low, high = (np.array(side) for side in zip(*self.ranges, strict=True))
            steps = np.round(np.clip((values - low) / (high - low), 0, 1) * SHARE_STEPS)
            moments[:, :, SHARES], moments[:, :, SHARE_SQUARES] = steps, steps * steps
        moments *= signs[:, None, None]
        outcomes = np.array([row.outcome for row in rows], dtype=np.intp)
        for name, indices in _rows_by_segment([row.segments for row in rows]).items():
            sums = self.segment(name)
            sums.labels += int(signs[indices].sum())
            if len(sums.outcomes):
                np.add.at(sums.outcomes, outcomes[indices], signs[indices])
            sums.moments += moments[indices].sum(axis=0)
        for row in rows:
            if row.role is LabelRole.FIRST and row.delay_cell is not None:
                self.delays[row.delay_cell] += 1
        self.corrections += sum(row.role is LabelRole.CORRECTION for row in rows)
        if len(self.group_sums):
            self._add_groups(rows, signs, moments[:, self._judged])
        if self._cells:
            self._add_cells(rows, signs, raw)

    def _add_cells(self, rows: Sequence[LabelledRow], signs: Counts, raw: Numbers) -> None:
        columns = np.empty((len(rows), MEASURES + self._measures))
        columns[:, LABELS] = 1
        columns[:, POSITIVES] = [row.positive for row in rows]
        columns[:, MEASURES:] = raw
        np.add.at(self.cells, [row.cell for row in rows], columns * signs[:, None])

    def _add_groups(self, rows: Sequence[LabelledRow], signs: Counts, moments: Numbers) -> None:
        groups = [min(row.group, len(self.group_sums) - 1) for row in rows]
        for group, row, sign in zip(groups, rows, signs.tolist(), strict=True):
            if row.delay_cell is not None:
                self.group_delays[group, row.delay_cell] += sign
        columns = np.stack([signs, moments[:, SHARES], moments[:, SHARE_SQUARES]], axis=1)
        np.add.at(self.group_sums, groups, columns)

    def take_new_cells(self) -> Numbers:
        """Return the sums by cell of the labels added since the last call."""
        new: Numbers = self.cells - self._taken_cells
        self._taken_cells = self.cells.copy()
        return new

    @property
    def slot_ms(self) -> int:
        """Length of a slot."""
        return (self.end_ms - self.start_ms) // SLOTS

    def ages_ms(self, now_ms: int) -> Counts:
        """Return the age of the youngest prediction that each slot may contain ``(SLOTS,)``."""
        length_ms = self.end_ms - self.start_ms
        return now_ms - (self.start_ms + np.arange(1, SLOTS + 1) * length_ms // SLOTS)

    def state(self) -> CohortState:
        """Return what `__init__` takes."""
        return CohortState(
            self.start_ms,
            self.end_ms,
            self.version,
            self.error_max,
            self.reports,
            self.mature,
            self.reported[0],
            self.reported_version,
            self.slots.tolist(),
            self.delays.tolist(),
            self.cells.tolist(),
            self._taken_cells.tolist(),
            {name: each.state() for name, each in self.segments.items()},
            self.early,
            self.group_delays.tolist(),
            self.group_sums.tolist(),
            self.outside,
            self.corrections,
            self.reported[1],
        )


def _rows_by_segment(segments: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Return the indices of the rows of each segment; all rows under the empty name."""
    members = {"": list(range(len(segments)))}
    for index, names in enumerate(segments):
        for name in names:
            members.setdefault(name, []).append(index)
    return members
