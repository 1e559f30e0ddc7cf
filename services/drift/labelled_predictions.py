"""What becomes of a labelled prediction: an outcome, and one more in cohorts, windows and detectors. Pure."""

from collections.abc import Mapping, Sequence

from services.drift.evaluator import Evaluator
from services.drift.window_sequence import WindowSequence
from services.drift.windows.window import DriftWindow
from services.drift.windows.window_arms import shadow_values
from services.monitoring.label_definition import label_definition
from services.monitoring.label_join import Joined, LabelJoin, at_prediction, numeric_prediction, outcome_of
from services.runtime import topic_identity
from services.runtime.declaration import ModelDeclaration
from streams import records

_SETTLED_INDEX = 0
"""Predictions are settled between records: their alarms come before those of the rows of a window's end."""


class LabelledPredictions:
    """Counts the labels of one model: as they come, or with ``label.absent`` when predictions are settled."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        topics: Mapping[str, str],
        join: LabelJoin,
        evaluator: Evaluator,
        windows: WindowSequence,
    ) -> None:
        """Count for an evaluator and its windows.

        Args:
            declaration: The model's.
            topics: Identity of the topics of predictions and labels.
            join: Says which labels count now, and counts those that are late.
            evaluator: Of the model.
            windows: The open window and the closed ones.
        """
        self._model = declaration.name
        self._definition = label_definition(declaration)
        self._sources = {
            kind: topic_identity.source_of(topics.get(kind, "")) for kind in ("predictions", "labels")
        }
        self._join, self._evaluator, self._windows = join, evaluator, windows

    def take(
        self, index: int, joined: Joined, window: DriftWindow, waited_for: tuple[int, int] | None
    ) -> records.Outcome:
        """Return the outcome of a label, and count it unless it counts when its prediction is settled.

        Args:
            index: Index of the record in process.
            joined: The label with its prediction.
            window: The open window.
            waited_for: Partition and offset of the prediction for which the label has waited, if it has.
        """
        counted = self._join.counted(joined)
        values = self._values(joined) if counted is None else self._evaluator.measure(counted)
        outcome = self._outcome(joined, values, "labels" if waited_for is None else "predictions")
        if waited_for is not None:
            outcome = at_prediction(outcome, *waited_for)
        if counted is not None and counted.corrects is None:
            self._count_first(index, counted, outcome, values, window)
        return outcome

    def settle(self, window: DriftWindow) -> None:
        """Count the labels of the predictions whose horizon ends with a window, see `LabelJoin.settle`."""
        for joined in self._join.settle(window.end_ms):
            values = self._evaluator.measure(joined)
            outcome = self._outcome(joined, values, "labels")
            self._count_first(_SETTLED_INDEX, joined, outcome, values, window)

    def _values(self, joined: Joined) -> list[float] | None:
        measures = self._evaluator.measures
        answer = numeric_prediction(joined.entry, measures)
        return None if answer is None else measures.values(answer, joined.label.value)

    def _outcome(self, joined: Joined, values: Sequence[float] | None, kind: str) -> records.Outcome:
        entry, label, corrects = joined
        measures, source = self._evaluator.measures, self._sources[kind]
        return outcome_of(self._model, entry, label, measures, values, source, self._definition, corrects)

    def _count_first(
        self,
        index: int,
        joined: Joined,
        outcome: records.Outcome,
        values: Sequence[float] | None,
        window: DriftWindow,
    ) -> None:
        """Count the first label of a prediction in the window of its time, and in the detectors of losses."""
        entry, label, _ = joined
        shadows = shadow_values(entry, label.value, self._evaluator.measures)
        comparison = self._evaluator.differences.comparison(entry)
        totals = self._join.totals
        if label.event_time_ms >= window.start_ms:
            window.add_outcome(entry, outcome, values, shadows, comparison)
            if values is not None:
                self._evaluator.add_loss(entry, values, label.event_time_ms, index)
        elif (late := self._windows.late(label.event_time_ms, self._evaluator.champion)) is None:
            totals.late_labels += 1
        else:
            totals.revised_labels += 1
            late.add_outcome(entry, outcome, values, shadows, comparison)
