"""The open window: what its report will need, in memory that does not grow with its predictions."""

import collections
from collections.abc import Sequence

import msgspec
import numpy as np

from services.drift.cells import FeatureCells, seasonal
from services.drift.statistics import Counts
from services.label_join import Pending
from services.seasons import seasons_of
from streams import records

ROWS_HELD_MAX = 4096
"""Rows of features kept until they are counted together: 30 times cheaper than one by one."""


class CellsState(msgspec.Struct, array_like=True):
    """Counts of one feature."""

    counts: list[int]
    unseen: dict[str, int]


class WindowState(msgspec.Struct):
    """All that a `Window` knows."""

    start_ms: int
    end_ms: int
    version: int | None = None
    """The champion against whose reference the window is compared; null before its first prediction."""
    predictions: int = 0
    labels: int = 0
    losses: int = 0
    loss_sum: float = 0.0
    answers: int = 0
    """Labels of predictions that gave an answer."""
    answers_right: int = 0
    shadows: dict[str, tuple[int, float]] = {}
    """By arm: labels and the sum of their log losses."""
    cells: list[CellsState] = []
    score_cells: CellsState | None = None
    season_rows: dict[str, dict[int, int]] = {}
    """By feature with a season: how many rows were in which."""


class Window:
    """Counts predictions and labels of one stretch of event time."""

    def __init__(self, state: WindowState, reference: records.Reference | None = None) -> None:
        """Start empty, or from a snapshot. The reference is that of ``state.version``."""
        self.state = state
        self.start_ms = state.start_ms
        self.end_ms = state.end_ms
        self.features: list[FeatureCells] = []
        self._references: list[records.FeatureReference] = []
        self.score: FeatureCells | None = None
        self._rows: list[list[records.FeatureValue]] = []
        self._times_ms: list[int] = []
        self._scores: list[records.FeatureValue] = []
        self._set_reference(reference)

    def choose_version(self, version: int, reference: records.Reference | None) -> None:
        """Fix the champion against whose reference this window is compared; the first choice stands."""
        if self.state.version is None:
            self.state.version = version
            self._set_reference(reference)

    def add_prediction(self, prediction: records.Prediction) -> None:
        """Count one prediction. Features that are not those of the reference are left out."""
        self.state.predictions += 1
        if not self.features:
            return
        if len(prediction.features) == len(self.features):
            self._rows.append(prediction.features)
            self._times_ms.append(prediction.event_time_ms)
        if prediction.version == self.state.version:
            self._scores.append(prediction.score)
        if max(len(self._rows), len(self._scores)) >= ROWS_HELD_MAX:
            self.count_rows()

    def add_outcome(self, entry: Pending, outcome: records.Outcome, shadow_losses: dict[str, float]) -> None:
        """Count one label that became known in this window."""
        state = self.state
        state.labels += 1
        if outcome.loss is not None:
            state.losses += 1
            state.loss_sum += outcome.loss
        if entry.answer is not None:
            state.answers += 1
            state.answers_right += entry.answer == outcome.label
        for arm, loss in shadow_losses.items():
            count, total = state.shadows.get(arm, (0, 0.0))
            state.shadows[arm] = (count + 1, total + loss)

    def count_rows(self) -> None:
        """Put the rows held into their cells."""
        if self._rows:
            for cells, column in zip(self.features, zip(*self._rows, strict=True), strict=True):
                cells.add(column)
            self._count_seasons()
            self._rows.clear()
            self._times_ms.clear()
        if self._scores and self.score is not None:
            self.score.add(self._scores)
        self._scores.clear()

    def seasonal_references(self) -> list[Counts]:
        """Return for each feature what to compare with: the reference, its seasons mixed as the window's."""
        return [
            seasonal(reference, cells, self.state.season_rows.get(reference.feature, {}))
            for reference, cells in zip(self._references, self.features, strict=True)
        ]

    def snapshot(self) -> WindowState:
        """Return what `__init__` takes."""
        self.count_rows()
        self.state.cells = [_state_of(cells) for cells in self.features]
        self.state.score_cells = _state_of(self.score) if self.score else None
        return self.state

    def _count_seasons(self) -> None:
        times_ms = np.array(self._times_ms, dtype=np.int64)
        for reference in self._references:
            if reference.season:
                rows = self.state.season_rows.setdefault(reference.feature, {})
                for season, count in collections.Counter(
                    seasons_of(times_ms, reference.season).tolist()
                ).items():
                    rows[season] = rows.get(season, 0) + count

    def _set_reference(self, reference: records.Reference | None) -> None:
        if reference is None:
            return
        self._references = reference.features
        self.features = _restore(reference.features, self.state.cells)
        if reference.score is not None:
            kept = self.state.score_cells
            self.score = _restore([reference.score], [kept] if kept else [])[0]


def _restore(
    references: Sequence[records.FeatureReference], kept: Sequence[CellsState]
) -> list[FeatureCells]:
    if not kept:
        return [FeatureCells(reference) for reference in references]
    return [
        FeatureCells(reference, cells.counts, cells.unseen.items())
        for reference, cells in zip(references, kept, strict=True)
    ]


def _state_of(cells: FeatureCells) -> CellsState:
    return CellsState(cells.counts.tolist(), cells.unseen)
