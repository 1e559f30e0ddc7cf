"""When labels count for a model that declares ``label.absent``: at the end of the label horizon. Pure.

If only one class has labels early (frauds), the predictions whose labels are known are nearly all of that
class. So no label counts before the horizon of its prediction has passed. Then the prediction is settled:
with the label that is known, or with the declared one. No record says so: it follows from the event time,
which every partition of the label topic must have reached.

A label that comes later is a correction, also of a declared one. So a settled prediction waits for one more
horizon.
"""

import heapq
import itertools
import operator
from collections.abc import Iterator

import msgspec

from services.monitoring.label_precedence import KnownLabel
from services.monitoring.pending_predictions import PendingPrediction, PendingPredictions
from streams import records
from streams.inputs import AFTER_ALL_MS, BEFORE_ALL_MS

NO_RECORD = -1
"""Partition and offset of a label that no record holds."""
_TIME = operator.attrgetter("counts_at_ms")


class SettlementState(msgspec.Struct):
    """Which predictions are settled."""

    before_ms: int = BEFORE_ALL_MS
    """All that count before this event time."""
    replaced: list[PendingPrediction] = []
    """Predictions whose id was asked again after they had waited, and that are to be settled."""


ALL_SETTLED = SettlementState(AFTER_ALL_MS)
"""For a join that settles none, such as that of a rebuild: it never changes."""


class LabelSettlement:
    """Settles the predictions of one model, each once."""

    def __init__(self, absent: float, horizon_ms: int, state: SettlementState) -> None:
        """Continue from a state, which this object changes.

        Args:
            absent: The label of a prediction that has none when its horizon has passed.
            horizon_ms: The label horizon.
            state: Of a snapshot, or a new one.
        """
        self._absent, self._horizon_ms, self._state = absent, horizon_ms, state

    def includes(self, entry: PendingPrediction) -> bool:
        """Tell whether a prediction is settled."""
        return entry.counts_at_ms < self._state.before_ms

    def implied(self, entry: PendingPrediction, delay_ms: int, counts_at_ms: int) -> KnownLabel | None:
        """Return what a prediction without a label has when one comes; None before its horizon has passed.

        Every label is later than an implied one, whatever its time: it was not known when the horizon passed.

        Args:
            entry: The prediction.
            delay_ms: Event time from the request to the label.
            counts_at_ms: Time of the label in the common order of all inputs.
        """
        has_passed = max(delay_ms, counts_at_ms - entry.counts_at_ms) > self._horizon_ms
        return KnownLabel(self._absent, None) if has_passed else None

    def value(self, entry: PendingPrediction) -> float:
        """Return the label of a prediction whose horizon has passed."""
        return self._absent if entry.label is None else entry.label

    def keep(self, entry: PendingPrediction) -> None:
        """Keep a prediction that does not wait any more until it is settled."""
        if not self.includes(entry):
            self._state.replaced.append(entry)

    def next_ms(self, pending: PendingPredictions) -> int | None:
        """Return the event time up to which the next prediction's horizon lasts; None if all are settled."""
        first = [*self._state.replaced[:1], *itertools.islice(pending.between(self._state.before_ms), 1)]
        return min((each.counts_at_ms + self._horizon_ms for each in first), default=None)

    def take(self, now_ms: int, pending: PendingPredictions) -> Iterator[PendingPrediction]:
        """Settle and yield the predictions whose horizon ended before an event time, in their order.

        They must not be changed until the iteration ends.
        """
        start_ms, stop_ms = self._state.before_ms, now_ms - self._horizon_ms
        if stop_ms <= start_ms:
            return
        self._state.before_ms = stop_ms
        replaced, self._state.replaced = self._state.replaced, []
        yield from heapq.merge(replaced, pending.between(start_ms, stop_ms), key=_TIME)

    def label(self, entry: PendingPrediction) -> records.Label:
        """Return the label with which a prediction is settled, dated at the end of its horizon."""
        return records.Label(
            prediction_id=entry.prediction_id,
            event_time_ms=entry.counts_at_ms + self._horizon_ms,
            value=self.value(entry),
            source_partition=NO_RECORD,
            source_offset=NO_RECORD,
        )
