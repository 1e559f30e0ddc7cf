"""Joins labels with predictions, which wait for as long as the label horizon.

A label that comes before its prediction waits as well, see `services.monitoring.waiting_labels`. It is joined
when the prediction comes, after labels with later offsets. So its outcome carries the position of the
prediction: the positions of outcomes rise whatever the order is, and repeats can be recognised by them.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from services.monitoring.model_metrics import Measures, NumericPrediction
from services.monitoring.pending_predictions import PendingPrediction, PendingPredictions
from services.monitoring.waiting_labels import WaitingLabel, WaitingLabels, has_passed
from streams import record_origin, records
from streams.inputs import TracedPrediction

SKEW_MS_MAX = 60_000
"""Maximum time by which a label may be dated before its request: that much the clocks of two producers may
differ. The delay is then 0."""


class JoinTotals(msgspec.Struct):
    """Running totals since the first event."""

    predictions: int = 0
    repeated: int = 0
    """Predictions that the scoring process wrote again after a crash."""
    joined: int = 0
    orphaned: int = 0
    """Labels without a prediction within the horizon."""
    misdated: int = 0
    """Labels that are dated before their request by more than clocks differ."""
    duplicate: int = 0
    """Further labels of a prediction, whether their value agrees or not."""
    conflicting: int = 0
    """Further labels whose value differs from the first."""
    unlabelled: int = 0
    """Predictions whose horizon passed without a label."""
    expired: int = 0
    """Predictions whose horizon passed, labelled or not."""
    late_predictions: int = 0
    """Predictions too late for their window; no report counts them."""
    late_labels: int = 0
    """Labels too late for their window; no report of a window counts them."""
    revised_predictions: int = 0
    """Late predictions that changed a closed window, which was reported again."""
    revised_labels: int = 0
    """Late labels that changed a closed window, which was reported again."""
    unnamed: int = 0
    """Predictions whose features have no known names: nothing is compared with them or learned from them."""
    rejected: int = 0
    """Records that could not be decoded."""


class Joined(NamedTuple):
    """A label with its prediction."""

    entry: PendingPrediction
    label: records.Label
    """Dated at its request if it was dated shortly before."""


class LabelJoin:
    """Finds the prediction of each label by its id, within the label horizon."""

    def __init__(
        self,
        horizon_ms: int,
        totals: JoinTotals,
        pending: PendingPredictions | None = None,
        *,
        classes: Sequence[str] = (),
        keep_features: bool = False,
        waiting: Iterable[WaitingLabel] = (),
    ) -> None:
        """Start empty or with the predictions that wait.

        Args:
            horizon_ms: Maximum event time between a prediction and its label.
            totals: The totals to update.
            pending: The predictions that wait; by default none, and all of them will be kept in memory.
            classes: The declared classes of a multiclass model.
            keep_features: Whether entries keep the features of their prediction.
            waiting: Labels that wait for their prediction, of a snapshot.
        """
        self.waiting = WaitingLabels(waiting)
        self._class_numbers = {name: float(number) for number, name in enumerate(classes)}
        self.horizon_ms = horizon_ms
        self._keep_features = keep_features
        self.pending = PendingPredictions() if pending is None else pending
        self.totals = totals

    def add_prediction(
        self, prediction: records.Prediction, counts_at_ms: int, segments: Sequence[str] = ()
    ) -> Joined | None:
        """Wait for the label of a prediction, or return it if it has come already.

        Of two predictions with the same id, the later is joined.
        """
        self.totals.predictions += 1
        replaced = self.pending.pop(prediction.prediction_id)
        if replaced is not None:
            self._expire(replaced)
        entry = PendingPrediction(
            prediction.prediction_id,
            prediction.event_time_ms,
            counts_at_ms,
            prediction.version,
            prediction.arm,
            prediction.score,
            self._number(prediction.prediction),
            prediction.shadow_scores,
            trace=prediction.trace if isinstance(prediction, TracedPrediction) else None,
            features=prediction.features if self._keep_features else [],
            probabilities=[] if prediction.probabilities is msgspec.UNSET else prediction.probabilities,
            segments=list(segments),
            shadow_versions={} if prediction.shadow_versions is msgspec.UNSET else prediction.shadow_versions,
        )
        self.pending.append(entry)
        waiting = self.waiting.pop(prediction.prediction_id)
        if waiting is None:
            return None
        if has_passed(waiting, counts_at_ms):
            self.totals.orphaned += 1
            return None
        return self._joined(entry, waiting.label)

    def _number(self, value: records.FeatureValue) -> float | None:
        if isinstance(value, str):
            return self._class_numbers.get(value)
        return None if value is None else float(value)

    def add_label(self, label: records.Label, counts_at_ms: int) -> Joined | None:
        """Return a label with its prediction.

        Without one the label waits; the result is then None, as for a further label of the same prediction.
        """
        entry = self.pending.get(label.prediction_id)
        if entry is not None:
            return self._joined(entry, label)
        first = self.waiting.get(label.prediction_id)
        if first is None:
            self.totals.orphaned += self.waiting.add(label, counts_at_ms)
        else:
            self._count_duplicate(first.value, label)
        return None

    def _joined(self, entry: PendingPrediction, label: records.Label) -> Joined | None:
        delay_ms = label.event_time_ms - entry.event_time_ms
        if delay_ms > self.horizon_ms:
            self.totals.orphaned += 1
        elif delay_ms < -SKEW_MS_MAX:
            self.totals.misdated += 1
        elif entry.label is not None:
            self._count_duplicate(entry.label, label)
        else:
            self.pending.note_label(entry, label.value)
            self.totals.joined += 1
            if delay_ms < 0:
                label = msgspec.structs.replace(label, event_time_ms=entry.event_time_ms)
            return Joined(entry, label)
        return None

    def _count_duplicate(self, first: float, label: records.Label) -> None:
        self.totals.duplicate += 1
        self.totals.conflicting += first != label.value

    def evict(self, now_ms: int) -> None:
        """Remove the predictions whose horizon ended before an event time, and labels that waited in vain."""
        self.totals.orphaned += self.waiting.give_up(now_ms)
        for entry in self.pending.take_before(now_ms - self.horizon_ms):
            self._expire(entry)

    def _expire(self, entry: PendingPrediction) -> None:
        self.totals.expired += 1
        self.totals.unlabelled += entry.label is None


def numeric_prediction(entry: PendingPrediction, measures: Measures) -> NumericPrediction | None:
    """Return a prediction as numbers; None if it cannot be measured."""
    if entry.score is None:
        return None
    is_multiclass = measures.task == "multiclass"
    if is_multiclass and (entry.predicted is None or len(entry.probabilities) != len(measures.classes)):
        return None  # predicted with other classes than those declared now
    predicted = measures.predicted_value(entry.score) if entry.predicted is None else entry.predicted
    if measures.task == "binary" and predicted not in (0.0, 1.0):
        return None  # the answer of another task
    return NumericPrediction(entry.score, predicted, entry.probabilities)


def outcome_of(
    model: str,
    entry: PendingPrediction,
    label: records.Label,
    measures: Measures,
    values: Sequence[float] | None,
    source: str = "",
    definition: str = "",
) -> records.Outcome:
    """Return the outcome of a prediction, with loss and cost from the values of its measures, if any.

    ``source`` is the digest of the label topic, ``definition`` that of the label's meaning.
    """
    return records.Outcome(
        prediction_id=entry.prediction_id,
        model=model,
        version=entry.version,
        arm=entry.arm,
        event_time_ms=entry.event_time_ms,
        label_time_ms=label.event_time_ms,
        source_partition=label.source_partition,
        source_offset=label.source_offset,
        source=source,
        definition=definition,
        label=label.value,
        score=entry.score,
        loss=None if values is None else measures.recorded_loss(values),
        shadow_scores=entry.shadow_scores,
        class_name=measures.classes[int(label.value)] if measures.classes else "",
        cost=None if values is None else measures.cost(values),
    )


def at_prediction(outcome: records.Outcome, partition: int, offset: int) -> records.Outcome:
    """Return an outcome with the position of its prediction in place of its label's.

    It is for a label that has waited: see `records.Outcome.source_partition`.
    """
    source = record_origin.outcome_source(outcome.source_partition, partition)
    return msgspec.structs.replace(outcome, source_partition=source, source_offset=offset)
