"""The drift process without its clients: decoded records in, outcomes, reports, alarms and requests out.

Everything is a function of the content of the input partitions. It does not depend on how they
interleave, on when the engine is asked to advance, or on where it was restarted.
"""

import bisect
import dataclasses
import operator
from collections.abc import Sequence

import msgspec

from services.drift import judge
from services.drift.binning.binning import PredictionRows
from services.drift.judge import Judge, JudgeState
from services.drift.references import References
from services.drift.windows import window_report
from services.drift.windows.closed_windows import ClosedWindows
from services.drift.windows.window import DriftWindow, DriftWindowState
from services.monitoring.label_join import JoinTotals, LabelJoin, PendingPrediction, outcome_of
from services.runtime.declaration import ModelDeclaration
from streams import codec, records, topics
from streams.inputs import BEFORE_ALL_MS, LABEL, PREDICTION, REJECTED, Inputs, Item, PartitionKey, Resume

_TIME = operator.attrgetter("counts_at_ms")


class StateError(ValueError):
    """A state does not fit the topics: they were made anew. Nothing sound follows from it."""


class State(msgspec.Struct):
    """All that an engine knows when everything taken has been processed, and where to go on reading."""

    predictions: list[Resume]
    """By partition."""
    labels: list[Resume]
    read_to: list[int]
    """By prediction partition: the offset after the last prediction processed."""
    last_offsets: dict[int, int]
    pending: list[PendingPrediction]
    totals: JoinTotals
    window: DriftWindowState | None
    closed: list[DriftWindowState]
    """Those that late records may still change."""
    references: list[records.Reference]
    judge: JudgeState
    prediction_slices: list[int] = []
    """By partition, where to go on in what gathering workers write; see `slices`."""
    label_slices: list[int] = []


@dataclasses.dataclass
class Outputs:
    """What came of one step. Write the outcomes first: the rest refers to them."""

    outcomes: dict[int, list[records.Outcome]] = dataclasses.field(default_factory=dict)
    """By partition of the label topic, source offsets rising."""
    drift: list[records.DriftRecord] = dataclasses.field(default_factory=list)
    requests: list[records.RetrainingRequested] = dataclasses.field(default_factory=list)
    """Their ``offsets`` name the predictions topic; who writes the outcomes adds theirs."""
    traces: dict[tuple[int, int], list[tuple[str, bytes]]] = dataclasses.field(default_factory=dict)
    """Headers of the traced outcomes, by source partition and offset."""
    dead_letters: list[records.DeadLetter] = dataclasses.field(default_factory=list)
    windows_closed: int = 0
    label_coverage: float | None = None
    """Share of the predictions whose horizon passed in the last closed window that had a label."""


class Engine:
    """Joins, windows and judges one model."""

    def __init__(self, declaration: ModelDeclaration, state: State) -> None:
        """Go on from a state; see `fresh_state`."""
        self.model = declaration.name
        self._declaration = declaration
        self._window_ms = declaration.monitoring.window_ms
        self.inputs = Inputs(
            {PartitionKey(PREDICTION, number): at for number, at in enumerate(state.predictions)}
            | {PartitionKey(LABEL, number): at for number, at in enumerate(state.labels)}
        )
        self._read_to = list(state.read_to)
        self._repeats = codec.RepeatFilter(state.last_offsets)
        self.totals = state.totals
        self._join = LabelJoin(
            declaration.label.horizon_ms, state.totals, state.pending, classes=declaration.classes
        )
        self._references = References(state.references, declaration)
        self._judge = Judge(declaration, self._references, state.judge)
        self._window = None if state.window is None else self._restored(state.window)
        self._closed = ClosedWindows(
            self._window_ms, declaration.monitoring.lateness_ms, map(self._restored, state.closed)
        )
        self._rows: list[records.Prediction] = []
        self._rows_at: list[int] = []
        """On time and not yet counted, with their places in what is being processed."""

    # -- what comes in ---------------------------------------------------------------------------

    def add_prediction(self, partition: int, offset: int, prediction: records.Prediction) -> None:
        """Take a prediction from its partition, in order."""
        self._references.note(prediction.version)
        place = PartitionKey(PREDICTION, partition)
        self.inputs.add(place, offset, prediction.event_time_ms, prediction.prediction_id, prediction)

    def add_label(self, partition: int, offset: int, label: records.Label) -> None:
        """Take a label from its partition, in order."""
        self.inputs.add(
            PartitionKey(LABEL, partition), offset, label.event_time_ms, label.prediction_id, label
        )

    def add_model(self, change: records.ModelChanged) -> None:
        """Learn the reference of a version. What it applies to is decided by the predictions alone."""
        if change.model == self.model and change.reference is not None:
            self._references.learn(change.reference)

    def add_request(self, request: records.RetrainingRequested) -> None:
        """Learn that a retraining was asked for, by whomever: it starts the cooldown."""
        if request.model == self.model:
            self._judge.learn_request(request.requested_at_ms)

    @property
    def unknown_versions(self) -> frozenset[int]:
        """Versions that predicted and have no known reference: read the models topic to its end first."""
        return self._references.unknown

    def give_up_unknown_versions(self) -> None:
        """Go on without the references that the models topic does not hold (any more)."""
        self._references.give_up()

    # -- what goes out ---------------------------------------------------------------------------

    @property
    def watermark_ms(self) -> int | None:
        """Everything up to this event time is processed after `advance`; None before the first records."""
        frontier = self.inputs.frontier_ms
        return None if frontier == BEFORE_ALL_MS else frontier - 1

    @property
    def closes_window(self) -> bool:
        """Tell whether `advance` would close a window: know all requests for retraining before it does."""
        return self._window is not None and self.inputs.frontier_ms >= self._window.end_ms

    @property
    def pending(self) -> int:
        """Predictions in memory."""
        return len(self._join)

    def advance(self) -> Outputs:
        """Process every record before the frontier and close every window that ends there."""
        assert not self.unknown_versions, "the reference of a version is unknown: read the models topic"
        outputs = Outputs()
        taken = self.inputs.take()
        items = [item for item in taken if item.kind != REJECTED]
        if len(items) < len(taken):  # these have no time of their own, and belong to no window
            rejected = [item.record for item in taken if item.kind == REJECTED]
            outputs.dead_letters += [letter for letter in rejected if letter is not None]
            self.totals.rejected += len(rejected)
        start = 0
        while start < len(items):
            self._close_until(items[start].counts_at_ms, outputs)
            self._window = self._window or self._opened(items[start].counts_at_ms)
            stop = bisect.bisect_left(items, self._window.end_ms, lo=start, key=_TIME)
            self._process(items[start:stop], self._window, outputs)
            start = stop
        self._close_until(self.inputs.frontier_ms, outputs)
        for outcomes in outputs.outcomes.values():
            outcomes.sort(key=lambda outcome: outcome.source_offset)
        return outputs

    def state(self) -> State:
        """Return what `__init__` takes; a snapshot of it is sound once all outputs are acknowledged."""
        resume = self.inputs.resume()
        return State(
            predictions=[at for place, at in sorted(resume.items()) if place.kind == PREDICTION],
            labels=[at for place, at in sorted(resume.items()) if place.kind == LABEL],
            read_to=self._read_to,
            last_offsets=self._repeats.last_offsets,
            pending=list(self._join.entries()),
            totals=self.totals,
            window=self._window.snapshot() if self._window else None,
            closed=self._closed.states(),
            references=self._references.kept(),
            judge=self._judge.state(),
        )

    # -- records ---------------------------------------------------------------------------------

    def _close_until(self, time_ms: int, outputs: Outputs) -> None:
        """Close the windows that end by then.

        Empty windows follow as long as predictions wait for labels, because the totals still change, and as
        long as cohorts of predictions wait for what is still to be said of them. Then
        none is open until the next record: which windows there are must not depend on when we are asked.
        """
        while self._window is not None and time_ms >= self._window.end_ms:
            end_ms = self._window.end_ms
            self._close(self._window, outputs)
            waits = self.pending or self._judge.performance.cohorts
            self._window = self._opened(end_ms) if waits else None

    def _opened(self, time_ms: int) -> DriftWindow:
        start_ms = time_ms // self._window_ms * self._window_ms
        self._closed.forget(start_ms)
        return DriftWindow(DriftWindowState(start_ms, start_ms + self._window_ms))

    def _restored(self, state: DriftWindowState) -> DriftWindow:
        return DriftWindow(state, self._references.placing(state.version))

    def _process(self, items: Sequence[Item], window: DriftWindow, outputs: Outputs) -> None:
        """Process what counts within the open window."""
        for place, item in enumerate(items):
            if item.kind == PREDICTION:
                self._process_prediction(place, item, window, outputs)
            else:
                self._process_label(place, item.record, window, outputs)
        self._count_rows(window, outputs)

    def _process_prediction(self, place: int, item: Item, window: DriftWindow, outputs: Outputs) -> None:
        prediction: records.Prediction = item.record
        self._read_to[item.partition] = item.offset + 1
        if self._repeats.is_repeat(prediction.source_partition, prediction.source_offset):
            self.totals.repeated += 1
            return
        on_time = prediction.event_time_ms == item.counts_at_ms
        if (on_time or not self._judge.champion) and self._judge.is_followed_by(prediction):
            self._count_rows(window, outputs)
            self._judge.follow(prediction.version, window.start_ms)
        self._join.add_prediction(prediction, item.counts_at_ms, self._judge.take_answer(prediction))
        if prediction.event_time_ms < window.start_ms:
            self._count_late_prediction(prediction, window)
            return
        self._rows.append(prediction)
        self._rows_at.append(place)

    def _process_label(self, place: int, label: records.Label, window: DriftWindow, outputs: Outputs) -> None:
        entry = self._join.add_label(label)
        if entry is None:
            return
        values, measures = self._judge.measure(entry, label), self._judge.measures
        outcome = outcome_of(self.model, entry, label, measures, values)
        outputs.outcomes.setdefault(label.source_partition, []).append(outcome)
        if entry.trace:
            outputs.traces[label.source_partition, label.source_offset] = entry.trace
        shadows = {
            arm: loss
            for arm, score in entry.shadow_scores.items()
            if (loss := measures.loss_of_score(score, label.value)) is not None
        }
        if label.event_time_ms < window.start_ms:
            if (late := self._late_window(label.event_time_ms, window)) is None:
                self.totals.late_labels += 1
                return
            self.totals.revised_labels += 1
            late.add_outcome(entry, outcome, values, shadows)
            return
        window.add_outcome(entry, outcome, values, shadows)
        if values is not None:
            self._judge.take_loss(entry.version, values, label.event_time_ms, place)

    def _count_late_prediction(self, prediction: records.Prediction, window: DriftWindow) -> None:
        """Let it change its window, unless it is too late for that. Detectors have moved on."""
        if (late := self._late_window(prediction.event_time_ms, window)) is None:
            self.totals.late_predictions += 1
            return
        self.totals.revised_predictions += 1
        self._choose_version(late)
        late.count_late(prediction)

    def _late_window(self, time_ms: int, window: DriftWindow) -> DriftWindow | None:
        return self._closed.of(time_ms, window.start_ms, self._judge.champion)

    def _count_rows(self, window: DriftWindow, outputs: Outputs) -> None:
        """Count and watch the rows so far, together, and raise what was found up to here."""
        if self._rows:
            self._choose_version(window)
            self._judge.take_rows(PredictionRows(self._rows), self._rows_at, window)
            self._rows, self._rows_at = [], []
        outputs.drift += self._judge.raised()

    def _choose_version(self, window: DriftWindow) -> None:
        champion = self._judge.champion
        window.choose_version(champion, self._references.placing(champion))

    def _close(self, window: DriftWindow, outputs: Outputs) -> None:
        window.state.champion = self._judge.champion
        outputs.drift += self._judge.watch_rest(window)
        expired, unlabelled = self.totals.expired, self.totals.unlabelled
        self._join.evict(window.end_ms)
        if passed := self.totals.expired - expired:
            outputs.label_coverage = 1 - (self.totals.unlabelled - unlabelled) / passed
        self._judge.close_window(window.end_ms)
        found = window_report.compare_window(window, self._declaration)
        if window.state.version == self._judge.champion:
            self._judge.observe(found)
        outputs.drift += self._judge.judge_quality(found.quality, window.start_ms, window.end_ms)
        offsets = {topics.predictions(self.model): list(self._read_to)}
        performance = self._judge.performance.close_window(window.end_ms, self._judge.champion)
        alarms, requests = self._judge.judge_harm(window.end_ms, offsets, found.contributions)
        outputs.drift += alarms
        window.state.alarms_standing = self._judge.standing_ids()
        outputs.drift.append(self._report(window, found))
        outputs.drift += performance
        outputs.requests += requests
        outputs.windows_closed += 1
        self._closed.keep(window)
        outputs.drift += map(self._revised, self._closed.touched())

    def _revised(self, window: DriftWindow) -> records.DriftReport:
        """Report a window again, with the records that came too late for its first report."""
        window.settle()
        found = window_report.compare_window(window, self._declaration)
        return self._report(window, found)

    def _report(self, window: DriftWindow, found: window_report.WindowComparison) -> records.DriftReport:
        return window_report.make_report(
            self.model, window, found, self.totals, self._references, self._judge.measures
        )


def fresh_state(
    declaration: ModelDeclaration,
    prediction_partitions: int,
    label_partitions: int,
    state: State | None = None,
) -> State:
    """Return the state before the first record, or a snapshot's; it has a place for each partition."""
    if state is None:
        state = State(
            predictions=[],
            labels=[],
            read_to=[],
            last_offsets={},
            pending=[],
            totals=JoinTotals(),
            window=None,
            closed=[],
            references=[],
            judge=judge.fresh(declaration),
        )
    for places, partitions in ((state.predictions, prediction_partitions), (state.labels, label_partitions)):
        if len(places) > partitions:
            raise StateError(
                f"{declaration.name}: the state has {len(places)} partitions, its topic {partitions}"
            )
        places.extend([Resume()] * (partitions - len(places)))
    state.read_to += [0] * (prediction_partitions - len(state.read_to))
    return state
