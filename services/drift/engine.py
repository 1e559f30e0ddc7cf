"""The drift process without its clients: decoded records in, outcomes, reports, alarms and requests out.

The output is a function of the content of the input partitions. It does not depend on how partitions
interleave, on when `advance` is called, or on where the engine was restarted.
"""

import bisect
import dataclasses
import operator
from collections.abc import Sequence

from services.drift import state_basis
from services.drift.binning.binning import PredictionRows
from services.drift.champions import Champions
from services.drift.drift_state import DriftState
from services.drift.evaluator import Evaluator
from services.drift.labelled_predictions import LabelledPredictions
from services.drift.references import References
from services.drift.window_sequence import WindowSequence
from services.drift.windows.window import DriftWindow
from services.monitoring.label_join import Joined, LabelJoin
from services.monitoring.label_values import absent_label
from services.monitoring.pending_predictions import PendingPredictions
from services.monitoring.pending_rebuild import point_of
from services.runtime.declaration import ModelDeclaration
from services.runtime.quarantine import Care, RecordPlace
from streams import records, topics
from streams.inputs import (
    BEFORE_ALL_MS,
    PREDICTION,
    REJECTED,
    Inputs,
    Item,
    by_partition,
    in_order,
)
from streams.repeats import RepeatFilter

_TIME = operator.attrgetter("counts_at_ms")


@dataclasses.dataclass
class DriftOutputs:
    """The output of one step. Write the outcomes first: the rest refers to them."""

    outcomes: dict[int, list[records.Outcome]] = dataclasses.field(default_factory=dict)
    """Outcomes by partition of the label topic, in rising order of source offsets."""
    drift: list[records.DriftRecord] = dataclasses.field(default_factory=list)
    requests: list[records.RetrainingRequested] = dataclasses.field(default_factory=list)
    """Their ``offsets`` name the predictions topic; the writer of the outcomes adds those of its topic."""
    traces: dict[tuple[int, int], list[tuple[str, bytes]]] = dataclasses.field(default_factory=dict)
    """Headers of the traced outcomes, by source partition and offset."""
    dead_letters: list[records.DeadLetter] = dataclasses.field(default_factory=list)
    windows_closed: int = 0
    label_coverage: float | None = None
    """Share of labelled predictions among those whose horizon ended in the last closed window."""


class Engine:
    """Joins the predictions of one model with their labels, in windows of event time."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        state: DriftState,
        care: Care | None = None,
        pending: PendingPredictions | None = None,
    ) -> None:
        """Continue from a state; see `starting_state`.

        Args:
            declaration: The model's.
            state: Where to continue.
            care: Changes which rows are counted together.
            pending: The predictions that wait, on disk too; by default those of the state.
        """
        self._care = care
        self.model = declaration.name
        self._basis = state_basis.basis_of(declaration)
        self._topics = state.topics
        self.inputs = Inputs(by_partition(state.predictions, state.labels))
        self._read_to = list(state.read_to)
        self._repeats = RepeatFilter(state.last_offsets, state.last_offsets_by_source, state.newest_offsets)
        self.totals = state.totals
        self._join = LabelJoin(
            declaration.label.horizon_ms,
            state.totals,
            PendingPredictions(state.pending) if pending is None else pending,
            classes=declaration.classes,
            waiting=state.waiting_labels,
            absent=absent_label(declaration),
            settlement=state.settlement,
        )
        self._settlement = state.settlement
        self.references = References(state.references, declaration)
        """Complete those that are unknown before `advance`: read the models topic to its end, or give up."""
        self.champions = Champions(state.evaluator.champion, state.champions)
        """Complete these, too, before `advance`: read the models topic to its end, then settle them."""
        self._evaluator = Evaluator(declaration, self.references, state.evaluator)
        self.retraining_trigger = self._evaluator.trigger
        self.active_alarms = self._evaluator.active
        self._on_disk = state.on_disk
        self.restored_segments_of = self._evaluator.restored_segments_of
        self._windows = WindowSequence(declaration, self.references, state.window, state.closed)
        self._labels = LabelledPredictions(
            declaration, state.topics, self._join, self._evaluator, self._windows
        )
        self._following = state.windows_following
        # Twice the horizon: a label may come at its end, and the cohort of its prediction is reported then.
        self._following_max = 2 * (declaration.label.horizon_ms // declaration.monitoring.window_ms + 1)
        self._rows: list[records.Prediction] = []
        """Predictions of the open window that are not counted yet."""
        self._row_indices: list[int] = []
        """Indices of these rows among the records in process."""
        self._in_work: list[Item] = []
        """The records in process, of one window."""
        self._item: Item | None = None
        """The record that is in process; None while rows are counted or windows closed."""

    # -- input -----------------------------------------------------------------------------------

    def add_prediction(self, partition: int, offset: int, prediction: records.Prediction) -> None:
        """Take a prediction from its partition, in order."""
        self.references.note(prediction)
        self.champions.note(prediction)
        self.inputs.add_prediction(partition, offset, prediction)

    def add_label(self, partition: int, offset: int, label: records.Label) -> None:
        """Take a label from its partition, in order."""
        self.inputs.add_label(partition, offset, label)

    def add_model(self, change: records.ModelsRecord) -> None:
        """Take a change of the arms with the reference of a version, or the names of features."""
        if change.model != self.model:
            return
        if isinstance(change, records.FeatureSet):
            self.references.feature_sets.learn(change)
            return
        self.champions.learn(change)
        if change.reference is not None:
            self.references.learn(change.reference)

    def add_retraining(self, record: records.RetrainingRecord | records.RolloutRecord) -> None:
        """Take a request or result of a retraining, of any origin, or a record of a rollout."""
        if record.model == self.model:
            self.retraining_trigger.note(record)

    def suspects(self) -> list[Item]:
        """Return the records that were in process when `advance` raised an error; none if a window closed."""
        if self._item is not None:
            return [self._item]
        return [self._in_work[index] for index in self._row_indices]

    # -- output ----------------------------------------------------------------------------------

    @property
    def watermark_ms(self) -> int | None:
        """The event time up to which `advance` processes everything; None before the first records."""
        frontier = self.inputs.frontier_ms
        return None if frontier == BEFORE_ALL_MS else frontier - 1

    @property
    def needs_control_topics(self) -> bool:
        """Whether the control topics must be read to their ends before `advance`.

        A window that closes depends on all retrainings and rollouts before it, a prediction on the changes of
        the models that were published before it.
        """
        window = self._windows.open
        closes_window = window is not None and self.inputs.frontier_ms >= window.end_ms
        return closes_window or not (self.references.are_complete and self.champions.are_known)

    @property
    def pending_predictions(self) -> PendingPredictions:
        """The predictions that wait for a label."""
        return self._join.pending

    def advance(self) -> DriftOutputs:
        """Process every record before the frontier and close every window that ends there.

        After an error the engine must not be used any more; `suspects` tells which records were in process.
        """
        assert self.references.are_complete, "read the models topic to its end, or give up"
        outputs = DriftOutputs()
        taken = self.inputs.take()
        items = [item for item in taken if item.kind != REJECTED]
        if len(items) < len(taken):  # rejected records have no event time and belong to no window
            rejected = [item.record for item in taken if item.kind == REJECTED]
            outputs.dead_letters += [letter for letter in rejected if letter is not None]
            self.totals.rejected += len(rejected)
        start = 0
        while start < len(items):
            self._close_until(items[start].counts_at_ms, outputs)
            self._following = 0
            window = self._windows.open or self._windows.open_at(items[start].counts_at_ms)
            stop = bisect.bisect_left(items, window.end_ms, lo=start, key=_TIME)
            self._in_work = items[start:stop]
            for index, item in enumerate(self._in_work):
                self._item = item
                if item.kind == PREDICTION:
                    self._process_prediction(index, item, window, outputs)
                else:
                    joined = self._join.add_label(item.record, item.counts_at_ms)
                    if joined is not None:
                        self._process_joined(index, joined, window, outputs)
                if self._care is not None and _ends_group(
                    self._care, len(self._rows), self._in_work, index, topics.predictions(self.model)
                ):
                    self._count_rows(window, outputs)
            self._item = None
            self._count_rows(window, outputs)
            start = stop
        self._close_until(self.inputs.frontier_ms, outputs)
        return outputs

    def state(self) -> DriftState:
        """Return what `__init__` takes; a snapshot of it may be written once all outputs are acknowledged."""
        open_window, closed_windows = self._windows.states()
        predictions, labels = in_order(self.inputs.resume())
        point = point_of(self.inputs.frontier_ms, predictions, labels, self._repeats)
        pending, generation = self._join.pending.settle()
        evicted_before_ms = open_window.start_ms if open_window else self.inputs.frontier_ms
        self._on_disk.note(
            self._join.pending.store, generation, point, evicted_before_ms, self._join.waits_ms
        )
        return DriftState(
            predictions=predictions,
            labels=labels,
            read_to=self._read_to,
            last_offsets=self._repeats.last_offsets,
            pending=pending,
            on_disk=self._on_disk,
            waiting_labels=self._join.waiting.entries(),
            settlement=self._settlement,
            last_offsets_by_source=self._repeats.by_source,
            newest_offsets=self._repeats.newest,
            totals=self.totals,
            window=open_window,
            closed=closed_windows,
            references=self.references.state(),
            evaluator=self._evaluator.state(),
            basis=self._basis,
            windows_following=self._following,
            topics=self._topics,
            champions=self.champions.state(),
        )

    # -- records ---------------------------------------------------------------------------------

    def _process_prediction(self, index: int, item: Item, window: DriftWindow, outputs: DriftOutputs) -> None:
        prediction: records.Prediction = item.record
        self._read_to[item.partition] = item.offset + 1
        if self._repeats.is_repeat(prediction.source_partition, prediction.source_offset, prediction.source):
            self.totals.repeated += 1
            return
        if self.champions.follow(prediction, min(prediction.event_time_ms, item.counts_at_ms)):
            self._count_rows(window, outputs)
            self._evaluator.follow(prediction.version, window.start_ms)
        self.totals.unnamed += not self.references.feature_sets.names(prediction.feature_set) and bool(
            prediction.feature_set
        )
        segments = self._evaluator.rows.segments_of(prediction)
        entry = self._join.add_prediction(prediction, item.counts_at_ms, segments)
        if entry is not None:
            self._evaluator.count_prediction(prediction, segments)
        if prediction.event_time_ms >= window.start_ms:
            self._rows.append(prediction)
            self._row_indices.append(index)
        elif (late := self._windows.late(prediction.event_time_ms, self._evaluator.champion)) is None:
            self.totals.late_predictions += 1
        else:  # it changes the window's report, not the detectors, which have passed its time
            self.totals.revised_predictions += 1
            self._windows.choose_version(late, self._evaluator.champion)
            late.count_late(prediction)
        if entry is not None and (joined := self._join.take_waiting(entry)) is not None:
            self._process_joined(index, joined, window, outputs, (item.partition, item.offset))

    def _process_joined(
        self,
        index: int,
        joined: Joined,
        window: DriftWindow,
        outputs: DriftOutputs,
        waited_for: tuple[int, int] | None = None,
    ) -> None:
        """Write the outcome of a label that came, or that has waited for a prediction (partition, offset)."""
        outcome = self._labels.take(index, joined, window, waited_for)
        outputs.outcomes.setdefault(joined.label.source_partition, []).append(outcome)
        if joined.entry.trace:
            outputs.traces[outcome.source_partition, outcome.source_offset] = joined.entry.trace

    def _count_rows(self, window: DriftWindow, outputs: DriftOutputs) -> None:
        """Count the rows so far in one batch, and raise the alarms detected up to here."""
        item, self._item = self._item, None
        if self._rows:
            self._windows.choose_version(window, self._evaluator.champion)
            self._evaluator.add_rows(PredictionRows(self._rows), self._row_indices, window)
        outputs.drift += self._evaluator.take_alarms()
        self._rows, self._row_indices = [], []
        self._item = item

    # -- windows ---------------------------------------------------------------------------------

    def _close_until(self, time_ms: int, outputs: DriftOutputs) -> None:
        """Close the windows that end by then.

        Empty windows follow while predictions or labels wait for each other, because the totals still change,
        and while cohorts of predictions wait for their last report. Then no window is open until the next
        record: the set of windows must not depend on when `advance` is called. They follow the last record
        for a bounded time: a prediction over HTTP may be years ahead of a stream that is a replay.
        """
        while (window := self._windows.open) is not None and time_ms >= window.end_ms:
            expired, unlabelled = self.totals.expired, self.totals.unlabelled
            self._labels.settle(window)
            outputs.drift += self._evaluator.take_alarms()
            self._join.evict(window.end_ms)
            if passed := self.totals.expired - expired:
                outputs.label_coverage = 1 - (self.totals.unlabelled - unlabelled) / passed
            offsets = {topics.predictions(self.model): list(self._read_to)}
            evaluation = self._evaluator.close_window(window, self.totals, offsets)
            outputs.drift += evaluation.drift
            outputs.requests += [] if evaluation.request is None else [evaluation.request]
            outputs.windows_closed += 1
            self._windows.close()
            outputs.drift += [
                self._evaluator.revised_report(each, self.totals) for each in self._windows.changed()
            ]
            is_waiting = self._join.pending or evaluation.open_cohorts or self._join.waiting
            if is_waiting and self._following < self._following_max:
                self._following += 1
                self._windows.open_at(window.end_ms)


def _ends_group(care: Care, rows: int, items: Sequence[Item], index: int, topic: str) -> bool:
    """Tell whether rows are counted up to this record: enough wait, or it or the next is counted alone."""
    places = (
        RecordPlace(topic, item.partition, item.offset)
        for item in items[index : index + 2]
        if item.kind == PREDICTION
    )
    return rows >= care.rows_max or any(place in care.alone for place in places)
