"""Predictions waiting for their labels, in memory bounded by the label horizon."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from services.monitoring.model_metrics import Measures, NumericPrediction
from streams import records
from streams.inputs import TracedPrediction


class PendingPrediction(msgspec.Struct, array_like=True, gc=False):
    """What the join needs of a prediction."""

    prediction_id: str
    event_time_ms: int
    counts_at_ms: int
    """When it counts in the common order; rises from entry to entry, so eviction looks at the front only."""
    version: int
    arm: str
    score: float | None
    answer: float | None
    """What was predicted; of a class its place in the declared order; null when there is none."""
    shadow_scores: dict[str, float]
    label: float | None = None
    """The first label that came, kept to recognise further ones."""
    trace: list[tuple[str, bytes]] | None = None
    """Headers that go on to the outcome."""
    features: list[records.FeatureValue] = []
    """As served, where the join keeps them."""
    probabilities: list[float] = []
    """Multiclass: of each class."""
    segments: list[str] = []
    """Those watched apart to which it belongs."""


class JoinTotals(msgspec.Struct):
    """Running totals since the first event."""

    predictions: int = 0
    repeated: int = 0
    """Predictions that were written again after a crash."""
    joined: int = 0
    orphaned: int = 0
    duplicate: int = 0
    """Further labels of a prediction, whether their value agrees or not."""
    conflicting: int = 0
    """Further labels whose value differs from the first."""
    unlabelled: int = 0
    """Predictions whose horizon passed without a label."""
    expired: int = 0
    """Predictions whose horizon passed, labelled or not."""
    late_predictions: int = 0
    """Too late for their window: in no report."""
    late_labels: int = 0
    revised_predictions: int = 0
    """Of a window that had closed, and was reported again because of them."""
    revised_labels: int = 0
    rejected: int = 0


class LabelJoin:
    """Finds the prediction of each label, by id and within the horizon."""

    def __init__(
        self,
        horizon_ms: int,
        totals: JoinTotals,
        pending: Iterable[PendingPrediction] = (),
        *,
        classes: Sequence[str] = (),
        keep_features: bool = False,
    ) -> None:
        """Start empty, or from a snapshot; the classes are those of a multiclass model."""
        self._class_numbers = {name: float(number) for number, name in enumerate(classes)}
        self._horizon_ms = horizon_ms
        self._keep_features = keep_features
        self._pending = {entry.prediction_id: entry for entry in pending}
        self.totals = totals

    def __len__(self) -> int:
        """Count the predictions whose horizon has not passed."""
        return len(self._pending)

    def entries(self) -> Iterator[PendingPrediction]:
        """Return what a snapshot must hold, in order."""
        return iter(self._pending.values())

    def add_prediction(
        self, prediction: records.Prediction, counts_at_ms: int, segments: Sequence[str] = ()
    ) -> None:
        """Wait for this prediction's label. Of two requests with the same id, the later answers for it."""
        self.totals.predictions += 1
        replaced = self._pending.pop(prediction.prediction_id, None)
        if replaced is not None:
            self._expire(replaced)
        self._pending[prediction.prediction_id] = PendingPrediction(
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
        )

    def _number(self, answer: records.FeatureValue) -> float | None:
        if isinstance(answer, str):
            return self._class_numbers.get(answer)
        return None if answer is None else float(answer)

    def add_label(self, label: records.Label) -> PendingPrediction | None:
        """Return the label's prediction, or None and count why not."""
        entry = self._pending.get(label.prediction_id)
        if entry is None or label.event_time_ms - entry.event_time_ms > self._horizon_ms:
            self.totals.orphaned += 1
            return None
        if entry.label is None:
            entry.label = label.value
            self.totals.joined += 1
            return entry
        self.totals.duplicate += 1
        self.totals.conflicting += entry.label != label.value
        return None

    def evict(self, now_ms: int) -> None:
        """Forget the predictions whose horizon ended before an event time."""
        expired = []
        for entry in self._pending.values():
            if entry.counts_at_ms + self._horizon_ms >= now_ms:
                break
            expired.append(entry)
        for entry in expired:
            del self._pending[entry.prediction_id]
            self._expire(entry)

    def _expire(self, entry: PendingPrediction) -> None:
        self.totals.expired += 1
        self.totals.unlabelled += entry.label is None


def numeric_prediction(entry: PendingPrediction, measures: Measures) -> NumericPrediction | None:
    """Return what a prediction said, if that is enough to measure it."""
    if entry.score is None:
        return None
    if measures.task == "multiclass" and (entry.answer is None or not entry.probabilities):
        return None  # its classes were others
    answer = measures.answer_of(entry.score) if entry.answer is None else entry.answer
    return NumericPrediction(entry.score, answer, entry.probabilities)


def outcome_of(
    model: str,
    entry: PendingPrediction,
    label: records.Label,
    measures: Measures,
    values: Sequence[float] | None,
) -> records.Outcome:
    """Make the record that tells how a prediction turned out, from the values of its measures, if any."""
    return records.Outcome(
        prediction_id=entry.prediction_id,
        model=model,
        version=entry.version,
        arm=entry.arm,
        event_time_ms=entry.event_time_ms,
        label_time_ms=label.event_time_ms,
        source_partition=label.source_partition,
        source_offset=label.source_offset,
        label=label.value,
        score=entry.score,
        loss=None if values is None else measures.recorded_loss(values),
        shadow_scores=entry.shadow_scores,
        class_name=measures.classes[int(label.value)] if measures.classes else "",
        cost=None if values is None else measures.cost(values),
    )
