"""Joins labels with predictions, which wait for as long as the label horizon.

If several requests have one id, the first in the common order of all inputs counts. Further ones within the
horizon after it count as asked again and have no label. If a prediction has several labels, one counts: see
`services.monitoring.label_precedence`. The first label is joined. A label that changes the value is a
correction: it is joined again, and its outcome says what it replaces.

A label that comes before its prediction waits as well, see `services.monitoring.waiting_labels`. It is joined
when the prediction comes, after labels with later offsets. So its outcome carries the position of the
prediction: the positions of outcomes rise whatever the order is, and repeats can be recognised by them.

If a prediction without a label has one when its horizon has passed (``label.absent``), predictions are
settled then, see `services.monitoring.label_settlement`, and wait for one more horizon.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from services.monitoring.label_precedence import Effect, KnownLabel, effect_of
from services.monitoring.label_settlement import LabelSettlement, SettlementState
from services.monitoring.model_metrics import Measures, NumericPrediction
from services.monitoring.pending_predictions import JoinedLabel, PendingPrediction, PendingPredictions
from services.monitoring.waiting_labels import WaitingLabel, WaitingLabels, has_passed
from streams import record_origin, records
from streams.inputs import AFTER_ALL_MS, TracedPrediction

SKEW_MS_MAX = 60_000
"""Maximum time by which a label may be dated before its request: that much the clocks of two producers may
differ. The delay is then 0."""


class JoinTotals(msgspec.Struct):
    """Running totals since the first event."""

    predictions: int = 0
    repeated: int = 0
    """Predictions that the scoring process wrote again after a crash."""
    asked_again: int = 0
    """Predictions whose id was asked before, within the horizon: the first one counts."""
    joined: int = 0
    """Predictions with a label."""
    orphaned: int = 0
    """Labels without a prediction within the horizon."""
    misdated: int = 0
    """Labels that are dated before their request by more than clocks differ."""
    corrected: int = 0
    """Later labels of a prediction with another value, which replaces the one before."""
    duplicate: int = 0
    """Further labels of a prediction with the value that it has."""
    superseded: int = 0
    """Further labels with another value, dated before the one that counts: they change nothing."""
    unlabelled: int = 0
    """Predictions whose horizon passed without a label."""
    expired: int = 0
    """Predictions whose horizon passed, labelled or not."""
    implied: int = 0
    """Predictions whose horizon passed without a label, which have the declared one (``label.absent``)."""
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


class Correction(NamedTuple):
    """What a later label of the same prediction replaces."""

    number: int
    """1 for the first correction of a prediction."""
    label: float
    label_time_ms: int | None
    """When the replaced label became known; None for one that an older version of Driftline joined."""


class Joined(NamedTuple):
    """A label with its prediction."""

    entry: PendingPrediction
    label: records.Label
    """Dated at its request if it was dated shortly before."""
    corrects: Correction | None = None
    """None: it is the first label of its prediction."""


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
        absent: float | None = None,
        settlement: SettlementState | None = None,
    ) -> None:
        """Start empty or with the predictions that wait.

        Args:
            horizon_ms: Maximum event time between a prediction and its label.
            totals: The totals to update.
            pending: The predictions that wait; by default none, and all of them will be kept in memory.
            classes: The declared classes of a multiclass model.
            keep_features: Whether entries keep the features of their prediction.
            waiting: Labels that wait for their prediction, of a snapshot.
            absent: The label of a prediction that has none when its horizon has passed.
            settlement: Which predictions are settled; of a snapshot, changed by this object.
        """
        self.settlement: LabelSettlement | None = None
        """None: labels count as they come."""
        if absent is not None:
            self.settlement = LabelSettlement(absent, horizon_ms, settlement or SettlementState())
        self.waiting = WaitingLabels(waiting)
        self._class_numbers = {name: float(number) for number, name in enumerate(classes)}
        self._horizon_ms = horizon_ms
        self.waits_ms = horizon_ms if absent is None else 2 * horizon_ms
        """How long a prediction waits."""
        self._keep_features = keep_features
        self.pending = PendingPredictions() if pending is None else pending
        self.totals = totals

    def add_prediction(
        self, prediction: records.Prediction, counts_at_ms: int, segments: Sequence[str] = ()
    ) -> PendingPrediction | None:
        """Wait for the label of a prediction, see `take_waiting`; return None if its id was asked before.

        Whether it was does not depend on when `evict` is called.
        """
        self.totals.predictions += 1
        before = self.pending.get(prediction.prediction_id)
        if before is not None and before.counts_at_ms + self.waits_ms >= counts_at_ms:
            self.totals.asked_again += 1
            return None
        if before is not None:
            self.pending.pop(prediction.prediction_id)
            self._expire(before)
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
            shadow_probabilities={}
            if prediction.shadow_probabilities is msgspec.UNSET
            else prediction.shadow_probabilities,
        )
        self.pending.append(entry)
        return entry

    def take_waiting(self, entry: PendingPrediction) -> Joined | None:
        """Join the prediction that was added last with its label, if that has come already.

        Of several labels the one that counts is joined, as if it were the first.
        """
        waiting = self.waiting.pop(entry.prediction_id)
        if waiting is None:
            return None
        if has_passed(waiting, entry.counts_at_ms):
            self.totals.orphaned += waiting.count
            return None
        found = None
        for label in (waiting.label, *waiting.further):
            found = self._joined(entry, label, entry.counts_at_ms) or found
        if found is None or found.corrects is None or entry.joined is None:
            return found
        self.pending.note_label(
            entry, found.label.value, msgspec.structs.replace(entry.joined, corrections=0)
        )
        return found._replace(corrects=None)

    def _number(self, value: records.FeatureValue) -> float | None:
        if isinstance(value, str):
            return self._class_numbers.get(value)
        return None if value is None else float(value)

    def add_label(self, label: records.Label, counts_at_ms: int) -> Joined | None:
        """Return a label with its prediction.

        Without one the label waits; the result is then None, as for a further label that changes nothing.
        """
        entry = self.pending.get(label.prediction_id)
        if entry is not None:
            return self._joined(entry, label, counts_at_ms)
        self.totals.orphaned += self.waiting.add(label, counts_at_ms)
        return None

    def settle(self, now_ms: int) -> Iterator[Joined]:
        """Yield the predictions whose horizon ended before an event time, with the labels that they have.

        Without ``label.absent`` there are none. No label or prediction may be added meanwhile.
        """
        if self.settlement is None:
            return
        for entry in self.settlement.take(now_ms, self.pending):
            self.totals.expired += 1
            self.totals.implied += entry.label is None
            yield Joined(entry, self.settlement.label(entry))

    @property
    def next_settled_ms(self) -> int:
        """The event time until which the horizon of the next prediction to be settled lasts."""
        found = None if self.settlement is None else self.settlement.next_ms(self.pending)
        return AFTER_ALL_MS if found is None else found

    def counted(self, joined: Joined) -> Joined | None:
        """Return a label as it counts now; None if it counts when its prediction is settled."""
        if self.settlement is None:
            return joined
        entry, _, corrects = joined
        if corrects is None or not self.settlement.includes(entry):
            return None
        at_end = self.settlement.label(entry)
        return Joined(entry, at_end, corrects._replace(label_time_ms=at_end.event_time_ms))

    def _joined(self, entry: PendingPrediction, label: records.Label, counts_at_ms: int) -> Joined | None:
        delay_ms = label.event_time_ms - entry.event_time_ms
        if delay_ms > self.waits_ms:
            self.totals.orphaned += 1
            return None
        if delay_ms < -SKEW_MS_MAX:
            self.totals.misdated += 1
            return None
        known = _known_of(entry)
        if known is None and self.settlement is not None:
            known = self.settlement.implied(entry, delay_ms, counts_at_ms)
        if self._count(entry, label, delay_ms, known) not in ("first", "corrects"):
            return None
        corrects = _correction_of(entry, known)
        number = 0 if corrects is None else corrects.number
        self.pending.note_label(entry, label.value, JoinedLabel(delay_ms, corrections=number))
        if delay_ms < 0:
            label = msgspec.structs.replace(label, event_time_ms=entry.event_time_ms)
        return Joined(entry, label, corrects)

    def _count(
        self, entry: PendingPrediction, label: records.Label, delay_ms: int, known: KnownLabel | None
    ) -> Effect:
        """Count a label in time by what it does; note the time of one that repeats the value."""
        effect, joined = effect_of(label.value, delay_ms, known), entry.joined
        self.totals.joined += effect == "first"
        self.totals.corrected += effect == "corrects"
        self.totals.superseded += effect == "superseded"
        self.totals.duplicate += effect == "repeats"
        if effect == "repeats" and joined is not None and delay_ms > joined.latest_ms:
            self.pending.note_label(entry, label.value, joined.restated(delay_ms))
        elif effect == "repeats" and entry.label is None:  # an implied label, which is known from now on
            self.pending.note_label(entry, label.value, JoinedLabel(delay_ms))
        return effect

    def evict(self, now_ms: int) -> None:
        """Remove predictions that have waited before an event time, and labels without a prediction.

        Call `settle` first.
        """
        self.totals.orphaned += self.waiting.give_up(now_ms)
        for entry in self.pending.take_before(now_ms - self.waits_ms):
            self._expire(entry)

    def _expire(self, entry: PendingPrediction) -> None:
        if self.settlement is not None:  # counts it when it is settled
            self.settlement.keep(entry)
            return
        self.totals.expired += 1
        self.totals.unlabelled += entry.label is None


def _known_of(entry: PendingPrediction) -> KnownLabel | None:
    """Return the label of a prediction that counts, its time as a delay; None without one."""
    if entry.label is None:
        return None
    return KnownLabel(entry.label, entry.joined.latest_ms if entry.joined else None)


def _correction_of(entry: PendingPrediction, known: KnownLabel | None) -> Correction | None:
    """Return what a new label of a prediction replaces; None if it has no label."""
    if known is None:
        return None
    if entry.label is None:
        return Correction(1, known.value, None)
    if entry.joined is None:
        return Correction(1, entry.label, None)
    time_ms = entry.event_time_ms + max(entry.joined.delay_ms, 0)
    return Correction(entry.joined.corrections + 1, entry.label, time_ms)


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
    corrects: Correction | None = None,
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
        shadow_versions=entry.shadow_versions,
        class_name=measures.classes[int(label.value)] if measures.classes else "",
        cost=None if values is None else measures.cost(values),
        correction=0 if corrects is None else corrects.number,
        corrected_label=None if corrects is None else corrects.label,
    )


def at_prediction(outcome: records.Outcome, partition: int, offset: int) -> records.Outcome:
    """Return an outcome with the position of its prediction in place of its label's.

    It is for a label that has waited: see `records.Outcome.source_partition`.
    """
    source = record_origin.outcome_source(outcome.source_partition, partition)
    return msgspec.structs.replace(outcome, source_partition=source, source_offset=offset)
