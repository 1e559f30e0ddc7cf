"""What is known of the predictions of one stretch of event time, a cohort: sums that add up exactly. Pure.

Rows of predictions and labels are put into sums in any order and in any slices: shares are whole steps of
`SHARE_STEPS`, raw values are rounded to `RAW_STEPS` parts of a unit, so that sums of doubles are exact up to
8e9 units, and what two halves of the rows give adds up to what all of them give.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.performance.label_maturity import DELAY_CELLS
from services.drift.performance.performance_estimation import LABELS, MEASURES, POSITIVES
from services.monitoring.model_metrics import MeasureRange

SLOTS = 24
"""Of a cohort's time: a prediction is taken to be as young as the end of its slot."""
SHARE_STEPS = 2**14
RAW_STEPS = 2**20
RAW, RAW_SQUARES, SHARES, SHARE_SQUARES = range(4)
"""Columns of the moments: sums and sums of squares of the values, and of where they stand in their range."""

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


Asked = tuple[int, float, Sequence[str]]
"""A prediction: its event time, its score, and the segments to which it belongs."""


class Labelled(NamedTuple):
    """A prediction whose label has come."""

    segments: Sequence[str]
    cell: int
    """Of its score."""
    delay_cell: int
    positive: float
    values: list[float]
    """Of each measure."""


class SliceState(msgspec.Struct, array_like=True):
    """All that a `Slice` knows."""

    predictions: int
    labels: int
    scores: list[int]
    moments: list[list[float]]
    settled_labels: int
    settled: list[list[float]]
    estimates: list[float]
    estimated_auc: float | None


class Slice:
    """The predictions of one segment of a cohort, or all of them."""

    def __init__(self, cells: int, measures: int, state: SliceState | None = None) -> None:
        """Start empty, or from a state."""
        self.predictions = state.predictions if state else 0
        self.labels = state.labels if state else 0
        self.scores: Counts = np.array(state.scores if state else [0] * cells, dtype=np.int64)
        nothing = [[0.0] * 4] * measures
        self.moments: Numbers = np.array(state.moments if state else nothing, dtype=np.float64)
        self.settled_labels = state.settled_labels if state else 0
        """What the running figures hold already."""
        self.settled: Numbers = np.array(state.settled if state else nothing, dtype=np.float64)
        self.estimates = list(state.estimates) if state else []
        """Of each measure, as they were when the window ended."""
        self.estimated_auc = state.estimated_auc if state else None

    def settle(self) -> tuple[int, Numbers]:
        """Return the labels and moments that came since the last time."""
        new = self.labels - self.settled_labels, self.moments - self.settled
        self.settled_labels, self.settled = self.labels, self.moments.copy()
        return new

    def state(self) -> SliceState:
        """Return what `__init__` takes."""
        return SliceState(
            self.predictions,
            self.labels,
            self.scores.tolist(),
            self.moments.tolist(),
            self.settled_labels,
            self.settled.tolist(),
            self.estimates,
            self.estimated_auc,
        )


class CohortState(msgspec.Struct, array_like=True):
    """All that a `Cohort` knows."""

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
    settled_cells: list[list[float]]
    slices: dict[str, SliceState]


class Cohort:
    """The champion's predictions of one window."""

    def __init__(
        self,
        start_ms: int,
        end_ms: int,
        version: int,
        *,
        cells: int,
        measures: int,
        ranges: Sequence[MeasureRange] | None,
        error_max: float | None = None,
        state: CohortState | None = None,
    ) -> None:
        """Start empty, or from a state. Without ranges there are no shares, hence no intervals."""
        self.start_ms, self.end_ms, self.version = start_ms, end_ms, version
        self.ranges = ranges
        self.error_max = error_max
        self._measures = measures
        self._cells = cells
        self.reports = state.reports if state else 0
        self.mature = state.mature if state else False
        self.reported_labels = state.reported_labels if state else 0
        self.reported_version = state.reported_version if state else 0
        """The latest one when it was first reported, of a model that goes on learning."""
        self.slots: Counts = np.array(state.slots if state else [0] * SLOTS, dtype=np.int64)
        self.delays: Counts = np.array(state.delays if state else [0] * DELAY_CELLS, dtype=np.int64)
        nothing = [[0.0] * (MEASURES + measures)] * cells
        self.cells: Numbers = np.array(state.cells if state else nothing, dtype=np.float64)
        self._settled_cells: Numbers = np.array(state.settled_cells if state else nothing, dtype=np.float64)
        self.slices = {
            name: Slice(cells, measures, each) for name, each in (state.slices if state else {}).items()
        }

    @property
    def all(self) -> Slice:
        """All predictions."""
        return self.slice_of("")

    def slice_of(self, segment: str) -> Slice:
        """Return what is known of a segment."""
        found = self.slices.get(segment)
        if found is None:
            found = self.slices[segment] = Slice(self._cells, self._measures)
        return found

    @property
    def has_cells(self) -> bool:
        """Whether scores are counted: there were edges when it began."""
        return bool(self._cells)

    def forget_cells(self) -> None:
        """Count no scores any more: those of another champion have other cells."""
        self._cells = 0
        self.cells = self._settled_cells = np.zeros((0, MEASURES + self._measures))

    def add_predictions(self, rows: Sequence[Asked], edges: Sequence[float]) -> None:
        """Count predictions; the edges are those of the cells of their scores."""
        times_ms = np.array([time_ms for time_ms, _, _ in rows], dtype=np.int64)
        self.slots += np.bincount(
            (times_ms - self.start_ms) * SLOTS // (self.end_ms - self.start_ms), minlength=SLOTS
        )
        cells = np.searchsorted(edges, [score for _, score, _ in rows], side="right")
        for segment, places in _members([segments for _, _, segments in rows]).items():
            found = self.slice_of(segment)
            found.predictions += len(places)
            if self._cells:
                found.scores += np.bincount(cells[places], minlength=self._cells)

    def add_labels(self, rows: Sequence[Labelled]) -> None:
        """Put labelled predictions into the sums."""
        values = np.array([row.values for row in rows], dtype=np.float64)
        raw = np.round(values * RAW_STEPS) / RAW_STEPS
        moments = np.zeros((*raw.shape, 4))
        moments[:, :, RAW] = raw
        moments[:, :, RAW_SQUARES] = np.round(raw * raw * RAW_STEPS) / RAW_STEPS
        if self.ranges is not None:
            low, high = (np.array(side) for side in zip(*self.ranges, strict=True))
            steps = np.round(np.clip((values - low) / (high - low), 0, 1) * SHARE_STEPS)
            moments[:, :, SHARES], moments[:, :, SHARE_SQUARES] = steps, steps * steps
        for segment, places in _members([row.segments for row in rows]).items():
            found = self.slice_of(segment)
            found.labels += len(places)
            found.moments += moments[places].sum(axis=0)
        np.add.at(self.delays, [row.delay_cell for row in rows], 1)
        if self._cells:
            self._add_cells(rows, raw)

    def _add_cells(self, rows: Sequence[Labelled], raw: Numbers) -> None:
        columns = np.empty((len(rows), MEASURES + self._measures))
        columns[:, LABELS] = 1
        columns[:, POSITIVES] = [row.positive for row in rows]
        columns[:, MEASURES:] = raw
        np.add.at(self.cells, [row.cell for row in rows], columns)

    def settle_cells(self) -> Numbers:
        """Return the sums by cell of the labels that came since the last time."""
        new: Numbers = self.cells - self._settled_cells
        self._settled_cells = self.cells.copy()
        return new

    def ages_ms(self, now_ms: int) -> Counts:
        """Return the age of the youngest prediction that each slot may hold."""
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
            self.reported_labels,
            self.reported_version,
            self.slots.tolist(),
            self.delays.tolist(),
            self.cells.tolist(),
            self._settled_cells.tolist(),
            {name: each.state() for name, each in self.slices.items()},
        )


def _members(segments: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Return the places of the rows of each segment; all of them under the empty name."""
    members = {"": list(range(len(segments)))}
    for place, names in enumerate(segments):
        for name in names:
            members.setdefault(name, []).append(place)
    return members
