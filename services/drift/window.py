"""The open window: what its report will need, in memory that does not grow with its predictions."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.cells import FeatureCells, seasonal
from services.drift.placing import Placed, Placing, Rows
from services.drift.statistics import Counts
from services.label_join import Pending
from services.pairs import Moments
from services.seasons import seasons_of
from streams import records


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
    sums: list[float] = []
    """Of each measure, over as many labels as there are losses."""
    answers: int = 0
    """Labels of predictions that gave an answer."""
    answers_right: int = 0
    shadows: dict[str, tuple[int, float]] = {}
    """By arm: labels and the sum of their log losses."""
    cells: list[CellsState] = []
    score_cells: CellsState | None = None
    season_rows: dict[str, dict[int, int]] = {}
    """By feature with a season: how many rows were in which."""
    pairs: records.PairReference | None = None
    """How the features went together."""


class Window:
    """Counts predictions and labels of one stretch of event time."""

    def __init__(self, state: WindowState, placing: Placing | None = None) -> None:
        """Start empty, or from a snapshot. The cells are those of ``state.version``."""
        self.state = state
        self.start_ms = state.start_ms
        self.end_ms = state.end_ms
        self.placing: Placing | None = None
        self.features: list[FeatureCells] = []
        self.score: FeatureCells | None = None
        self.pairs: Moments | None = None
        self._set_placing(placing)

    def choose_version(self, version: int, placing: Placing | None) -> None:
        """Fix the champion against whose reference this window is compared; the first choice stands."""
        if self.state.version is None:
            self.state.version = version
            self._set_placing(placing)

    def count(self, rows: Rows, placed: Placed | None, start: int, stop: int) -> None:
        """Count the predictions of a part of the rows, placed by `placing`; None without one.

        Features that are not those of the reference are left out.
        """
        self.state.predictions += stop - start
        if placed is None:
            return
        first, last = np.searchsorted(placed.rows, (start, stop)).tolist()
        for number, cells in enumerate(self.features):
            cells.count(placed.cells[first:last, number], placed.columns[number][first:last])
        self._count_seasons(rows.times_ms[placed.rows[first:last]])
        if self.pairs is not None:
            self.pairs.add(placed.pair_scores[first:last])
        if self.score is not None and placed.scores is not None:
            own = rows.versions[start:stop] == self.state.version
            self.score.count(placed.scores[start:stop][own], ())

    def add_outcome(
        self,
        entry: Pending,
        outcome: records.Outcome,
        values: Sequence[float] | None,
        shadow_losses: dict[str, float],
    ) -> None:
        """Count one label that became known in this window, with the values of its measures, if any."""
        state = self.state
        state.labels += 1
        if outcome.loss is not None:
            state.losses += 1
            state.loss_sum += outcome.loss
        if values is not None:
            sums = state.sums or [0.0] * len(values)
            state.sums = [total + value for total, value in zip(sums, values, strict=True)]
        if entry.answer is not None:
            state.answers += 1
            state.answers_right += entry.answer == outcome.label
        for arm, loss in shadow_losses.items():
            count, total = state.shadows.get(arm, (0, 0.0))
            state.shadows[arm] = (count + 1, total + loss)

    def seasonal_references(self) -> list[Counts]:
        """Return for each feature what to compare with: the reference, its seasons mixed as the window's."""
        return [
            seasonal(reference, cells, self.state.season_rows.get(reference.feature, {}))
            for reference, cells in zip(self._references(), self.features, strict=True)
        ]

    def snapshot(self) -> WindowState:
        """Return what `__init__` takes."""
        self.state.cells = [_state_of(cells) for cells in self.features]
        self.state.score_cells = _state_of(self.score) if self.score else None
        self.state.pairs = self.pairs.reference() if self.pairs else None
        return self.state

    def _references(self) -> Sequence[records.FeatureReference]:
        return self.placing.reference.features if self.placing else ()

    def _count_seasons(self, times_ms: npt.NDArray[np.int64]) -> None:
        for reference in self._references():
            if reference.season:
                rows = self.state.season_rows.setdefault(reference.feature, {})
                found, counts = np.unique(seasons_of(times_ms, reference.season), return_counts=True)
                for season, count in zip(found.tolist(), counts.tolist(), strict=True):
                    rows[season] = rows.get(season, 0) + count

    def _set_placing(self, placing: Placing | None) -> None:
        self.placing = placing
        if placing is None:
            return
        reference = placing.reference
        self.features = _restore(reference.features, self.state.cells)
        if reference.score is not None:
            kept = self.state.score_cells
            self.score = _restore([reference.score], [kept] if kept else [])[0]
        if reference.pairs is not None:
            counted = self.state.pairs
            self.pairs = Moments.of_reference(counted) if counted else Moments.none(len(reference.pairs.sums))


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
