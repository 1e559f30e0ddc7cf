"""The reference of a model that learns online: its first labelled predictions from a declared time on. Pure.

The rows are those of the smallest event times, whenever their labels came. They are complete when no label of
theirs can come any more, so fast labels are not over-represented. So the reference depends on the content of
the inputs alone, and the memory is bounded by the declared number of rows.
"""

import bisect
from collections.abc import Mapping

import numpy as np
import structlog

from services.learning.learner_state import KnownRow, LearnerState
from services.model_registry.model_inputs import InputKind, Inputs
from services.model_registry.traffic_split import CHAMPION
from services.monitoring import reference
from services.monitoring.pending_predictions import PendingPrediction
from services.runtime.declaration import REFERENCE_ROWS_MIN, ModelDeclaration
from streams import records
from streams.records import FeatureValue

_log = structlog.get_logger()


class ReferencePeriod:
    """Collects the rows of the reference of one model until it is made."""

    def __init__(self, declaration: ModelDeclaration, kinds: Inputs, state: LearnerState) -> None:
        """Continue from a state, which this object changes.

        Args:
            declaration: A declaration with a ``learning`` section.
            kinds: The features of the rows, in their order.
            state: Holds the rows, and later the reference.
        """
        assert declaration.learning is not None, "a model that learns declares it"
        self._declaration = declaration
        self._declared = declaration.learning.reference
        self._horizon_ms = declaration.label.horizon_ms
        self._kinds = kinds
        self._state = state

    def add(self, label: records.Label, entry: PendingPrediction) -> None:
        """Take a labelled prediction, if it belongs to the rows; the latest label counts."""
        declared, rows, time_ms = self._declared, self._state.known_rows, entry.event_time_ms
        if self._state.reference is not None or entry.score is None or entry.arm != CHAMPION:
            return
        if not declared.contains(time_ms) or len(entry.features) != len(self._kinds):
            return
        if len(rows) == declared.rows and time_ms > rows[-1].event_time_ms:
            return
        row = KnownRow(time_ms, entry.prediction_id, label.value, entry.score, list(entry.features))
        place = bisect.bisect_left(rows, _place(row), key=_place)
        is_corrected = place < len(rows) and _place(rows[place]) == _place(row)
        rows[place : place + is_corrected] = [row]
        del rows[declared.rows :]

    def close(self, end_ms: int, version: int) -> None:
        """Make the reference if its rows are complete at the end of an interval.

        Args:
            end_ms: No label that became known before this event time will come.
            version: The first version that is compared with the reference.
        """
        rows, until_ms = self._state.known_rows, self._declared.until_ms
        if not rows:
            return
        is_full = len(rows) == self._declared.rows and rows[-1].event_time_ms + self._horizon_ms < end_ms
        is_over = until_ms is not None and until_ms + self._horizon_ms < end_ms
        if not is_full and not is_over:
            return
        self._state.known_rows = []
        if len(rows) < REFERENCE_ROWS_MIN:
            _log.warning(
                "learning.reference_missing",
                model=self._declaration.name,
                rows=len(rows),
                rows_min=REFERENCE_ROWS_MIN,
                remedy="declare a longer learning.reference",
            )
            return
        self._state.reference = self._made(rows, version)

    def _made(self, rows: list[KnownRow], version: int) -> records.Reference:
        times_ms = np.array([row.event_time_ms for row in rows], dtype=np.int64)
        columns = {
            name: _column(kind, [row.features[number] for row in rows])
            for number, (name, kind) in enumerate(self._kinds.items())
            if kind is not InputKind.TIME
        }
        scores, labels = (
            np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in ("score", "label")
        )
        return reference.build(
            version,
            reference.KnownRows(_compared(columns), times_ms),
            reference.KnownOutputs(scores, labels, times_ms),
            self._declaration,
        )


def _place(row: KnownRow) -> tuple[int, str]:
    return row.event_time_ms, row.prediction_id


def _compared(columns: Mapping[str, reference.Column]) -> dict[str, reference.Column]:
    return {name: column for name, column in columns.items() if not reference.is_id(column)}


def _column(kind: InputKind, values: list[FeatureValue]) -> reference.Column:
    """Return values as a column (n,): float64 with nan, or object with None for texts."""
    if kind is InputKind.NUMBER:
        numbers = [value if isinstance(value, int | float) else None for value in values]
        return np.array(numbers, dtype=np.float64)
    column = np.empty(len(values), dtype=object)
    column[:] = [None if value is None else str(value) for value in values]
    return column
