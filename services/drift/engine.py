"""The drift process without its clients: decoded records in, outcomes, reports, alarms and requests out.

Everything is a function of the content of the input partitions. It does not depend on how they
interleave, on when the engine is asked to advance, or on where it was restarted.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from itertools import repeat

import msgspec

from services.drift.alarms import Alarms, Finding, Kind, Watch, alarm_of, alarm_of_change
from services.drift.comparison import Comparison, Limits, compare
from services.drift.detection import Change
from services.drift.harm import LossMonitor, MonitorState
from services.drift.watching import HARM, LossWatchers, Noticed, Watchers, WatcherState
from services.drift.window import Window, WindowState
from services.label_join import Join, Pending, Totals, log_loss, outcome_of
from services.model import DAY_MS, MONTH_MS, ModelDeclaration
from streams import codec, records, topics
from streams.inputs import BEFORE_ALL_MS, LABEL, PREDICTION, REJECTED, Inputs, Item, Place, Resume

REFERENCES_KEPT_MAX = 8
"""Of the latest versions: those that a rollback may bring back."""
CHAMPION_WEIGHT_MIN = 5_000
"""An arm with more than half of the keys is the champion."""


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
    pending: list[Pending]
    totals: Totals
    window: WindowState | None
    champion: int
    references: list[records.Reference]
    monitor: MonitorState
    watches: dict[str, Watch]
    watchers: dict[str, WatcherState]
    loss_watchers: dict[str, bytes]
    rise: records.DriftAlarm | None
    requested_at_ms: list[int]


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
        self._monitoring = declaration.monitoring
        self._window_ms = declaration.monitoring.window_ms
        self._cooldown_ms = round(declaration.retraining.cooldown_days * DAY_MS)
        self._is_retrained = declaration.is_retrained
        self._minimum_labels = declaration.retraining.minimum_labels
        self.inputs = Inputs(
            {Place(PREDICTION, number): at for number, at in enumerate(state.predictions)}
            | {Place(LABEL, number): at for number, at in enumerate(state.labels)}
        )
        self._read_to = list(state.read_to)
        self._repeats = codec.RepeatFilter(state.last_offsets)
        self.totals = state.totals
        self._join = Join(declaration.label.horizon_ms, state.totals, state.pending)
        self.champion = state.champion
        self._references: dict[int, records.Reference | None] = {0: None}
        self._references |= {reference.version: reference for reference in state.references}
        self._monitor = LossMonitor(self._monitoring.adwin_delta, 0, state.monitor)
        self._alarms = Alarms(self._monitoring.alarm_windows, state.watches)
        self._watch_champion(state.watchers, state.loss_watchers)
        self._rise = state.rise
        self._requested_at_ms = set(state.requested_at_ms)
        self._unknown_versions: set[int] = set()
        self._window: Window | None = None
        if state.window is not None:
            self._window = Window(state.window, self._reference(state.window.version))

    # -- what comes in ---------------------------------------------------------------------------

    def add_prediction(self, partition: int, offset: int, prediction: records.Prediction) -> None:
        """Take a prediction from its partition, in order."""
        if prediction.version not in self._references:
            self._unknown_versions.add(prediction.version)
        place = Place(PREDICTION, partition)
        self.inputs.add(place, offset, prediction.event_time_ms, prediction.prediction_id, prediction)

    def add_label(self, partition: int, offset: int, label: records.Label) -> None:
        """Take a label from its partition, in order."""
        self.inputs.add(Place(LABEL, partition), offset, label.event_time_ms, label.prediction_id, label)

    def add_model(self, change: records.ModelChanged) -> None:
        """Learn the reference of a version. What it applies to is decided by the predictions alone."""
        if change.model == self.model and change.reference is not None:
            self._references[change.reference.version] = change.reference
            self._unknown_versions.discard(change.reference.version)

    def add_request(self, request: records.RetrainingRequested) -> None:
        """Learn that a retraining was asked for, by whomever: it starts the cooldown."""
        if request.model == self.model:
            self._requested_at_ms.add(request.requested_at_ms)

    @property
    def unknown_versions(self) -> frozenset[int]:
        """Versions that predicted and have no known reference: read the models topic to its end first."""
        return frozenset(self._unknown_versions)

    def give_up_unknown_versions(self) -> None:
        """Go on without the references that the models topic does not hold (any more)."""
        self._references |= dict.fromkeys(self._unknown_versions)
        self._unknown_versions.clear()

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
        assert not self._unknown_versions, "the reference of a version is unknown: read the models topic"
        outputs = Outputs()
        for item in self.inputs.take():
            if item.kind == REJECTED:  # has no time of its own, and belongs to no window
                self.totals.rejected += 1
                outputs.dead_letters.append(item.record)
                continue
            self._close_until(item.counts_at_ms, outputs)
            self._window = self._window or self._opened(item.counts_at_ms)
            self._process(item, outputs)
        self._close_until(self.inputs.frontier_ms, outputs)
        for outcomes in outputs.outcomes.values():
            outcomes.sort(key=lambda outcome: outcome.source_offset)
        return outputs

    def state(self) -> State:
        """Return what `__init__` takes; a snapshot of it is sound once all outputs are acknowledged."""
        resume = self.inputs.resume()
        known = [reference for reference in self._references.values() if reference is not None]
        known.sort(key=lambda reference: reference.version)
        return State(
            predictions=[at for place, at in sorted(resume.items()) if place.kind == PREDICTION],
            labels=[at for place, at in sorted(resume.items()) if place.kind == LABEL],
            read_to=self._read_to,
            last_offsets=self._repeats.last_offsets,
            pending=list(self._join.entries()),
            totals=self.totals,
            window=self._window.snapshot() if self._window else None,
            champion=self.champion,
            references=known[-REFERENCES_KEPT_MAX:],
            monitor=self._monitor.state(),
            watches=self._alarms.watches,
            watchers=self._watchers.state(),
            loss_watchers=self._loss_watchers.state(),
            rise=self._rise,
            requested_at_ms=sorted(self._requested_at_ms),
        )

    # -- records ---------------------------------------------------------------------------------

    def _close_until(self, time_ms: int, outputs: Outputs) -> None:
        """Close the windows that end by then.

        Empty windows follow as long as predictions wait for labels, because the totals still change. Then
        none is open until the next record: which windows there are must not depend on when we are asked.
        """
        while self._window is not None and time_ms >= self._window.end_ms:
            end_ms = self._window.end_ms
            self._close(self._window, outputs)
            self._window = self._opened(end_ms) if self.pending else None

    def _opened(self, time_ms: int) -> Window:
        start_ms = time_ms // self._window_ms * self._window_ms
        return Window(WindowState(start_ms, start_ms + self._window_ms))

    def _process(self, item: Item, outputs: Outputs) -> None:
        if item.kind == PREDICTION:
            self._process_prediction(item, item.record, outputs)
        else:
            self._process_label(item.record, outputs)

    def _process_prediction(self, item: Item, prediction: records.Prediction, outputs: Outputs) -> None:
        self._read_to[item.partition] = item.offset + 1
        if self._repeats.is_repeat(prediction.source_partition, prediction.source_offset):
            self.totals.repeated += 1
            return
        self._join.add_prediction(prediction, item.counts_at_ms)
        window = self._window
        assert window is not None
        on_time = prediction.event_time_ms == item.counts_at_ms
        if on_time and prediction.version != self.champion and prediction.arm_weight > CHAMPION_WEIGHT_MIN:
            self._follow(prediction.version, window.start_ms)
        if prediction.event_time_ms < window.start_ms:
            self.totals.late_predictions += 1
            return
        window.choose_version(self.champion, self._reference(self.champion))
        window.add_prediction(prediction)
        for noticed in self._watchers.add(prediction, of_champion=prediction.version == self.champion):
            self._raise_noticed(noticed, window, outputs)

    def _process_label(self, label: records.Label, outputs: Outputs) -> None:
        entry = self._join.add_label(label)
        if entry is None:
            return
        outcome = outcome_of(self.model, entry, label)
        outputs.outcomes.setdefault(label.source_partition, []).append(outcome)
        if entry.trace:
            outputs.traces[label.source_partition, label.source_offset] = entry.trace
        window = self._window
        assert window is not None
        if label.event_time_ms < window.start_ms:
            self.totals.late_labels += 1
            return
        shadows = {arm: log_loss(label.value, score) for arm, score in entry.shadow_scores.items()}
        window.add_outcome(entry, outcome, shadows)
        if outcome.loss is not None and entry.version == self.champion:
            wrong = entry.answer != outcome.label
            self._process_loss(outcome.loss, label.event_time_ms, outputs, wrong=wrong)

    def _process_loss(self, loss: float, time_ms: int, outputs: Outputs, *, wrong: bool) -> None:
        if self._monitor.add(loss):
            self._raise_rise(time_ms, outputs)
        for detector, change in self._loss_watchers.add(loss, time_ms, wrong=wrong):
            self._raise_harm(detector, change, outputs)

    # -- champions -------------------------------------------------------------------------------

    def _reference(self, version: int | None) -> records.Reference | None:
        return None if version is None else self._references.get(version)

    def _follow(self, version: int, window_start_ms: int) -> None:
        """Another champion serves: its losses and its alarms begin anew."""
        self.champion = version
        self._monitor = LossMonitor(self._monitoring.adwin_delta, window_start_ms)
        self._alarms.clear()
        self._watch_champion({}, {})
        self._rise = None

    def _watch_champion(
        self, watchers: Mapping[str, WatcherState], loss_watchers: Mapping[str, bytes]
    ) -> None:
        self._watchers = Watchers(self._reference(self.champion), self._monitoring, watchers)
        self._loss_watchers = LossWatchers(
            self._reference(self.champion), self._monitoring, self._watchers.streams, loss_watchers
        )

    # -- windows ---------------------------------------------------------------------------------

    def _close(self, window: Window, outputs: Outputs) -> None:
        window.choose_version(self.champion, self._reference(self.champion))
        window.count_rows()
        for noticed in self._watchers.watch():
            self._raise_noticed(noticed, window, outputs)
        expired, unlabelled = self.totals.expired, self.totals.unlabelled
        self._join.evict(window.end_ms)
        if passed := self.totals.expired - expired:
            outputs.label_coverage = 1 - (self.totals.unlabelled - unlabelled) / passed
        self._monitor.close_window(window.end_ms)
        limits = self._limits(len(window.features))
        seen = bool(window.state.predictions)  # a window without any says nothing of distributions
        references = window.seasonal_references() if seen else []
        compared = [compare(*each) for each in zip(window.features, repeat(limits), references, strict=False)]
        score = compare(window.score, limits) if window.score and seen else None
        if window.state.version == self.champion:
            self._observe(compared, score)
        self._judge_loss(window, outputs)
        outputs.drift.append(self._report(window, compared, score))
        self._rise = None
        outputs.windows_closed += 1

    def _limits(self, features: int) -> Limits:
        monitoring = self._monitoring
        p_value = monitoring.p_value_threshold / max(features, 1)
        return Limits(monitoring.psi_threshold, p_value, monitoring.new_category_share)

    def _report(
        self, window: Window, compared: Iterable[Comparison], score: Comparison | None
    ) -> records.DriftReport:
        state, totals = window.state, self.totals
        reference = self._reference(state.version)
        return records.DriftReport(
            report_id=f"{self.model}-{window.start_ms}-{window.end_ms}",
            model=self.model,
            version=state.version or 0,
            window_start_ms=window.start_ms,
            window_end_ms=window.end_ms,
            predictions=state.predictions,
            labels=state.labels,
            features=[comparison.drift for comparison in compared],
            score_psi=score.drift.psi if score else None,
            log_loss=state.loss_sum / state.losses if state.losses else None,
            accuracy=state.answers_right / state.answers if state.answers else None,
            reference_log_loss=reference.log_loss if reference else None,
            shadow_log_loss={arm: total / count for arm, (count, total) in state.shadows.items()},
            labels_joined_total=totals.joined,
            labels_orphaned_total=totals.orphaned,
            labels_duplicate_total=totals.duplicate,
            predictions_unlabelled_total=totals.unlabelled,
            score_bins=score.drift.bins if score else None,
            alarms_standing=self._alarms.standing_ids(),
        )

    # -- alarms ----------------------------------------------------------------------------------

    def _observe(self, compared: Iterable[Comparison], score: Comparison | None) -> None:
        """Let the window say which alarms no longer hold."""
        for comparison in compared:
            feature = comparison.drift.feature
            self._alarms.observe("feature", feature, drifted=comparison.shifted)
            self._alarms.observe("category", feature, drifted=comparison.new_categories)
        if score is not None:
            self._alarms.observe("score", "score", drifted=score.shifted)

    def _raise_noticed(self, noticed: Noticed, window: Window, outputs: Outputs) -> None:
        """Raise what a detector found in a feature or in the scores; new categories are called so."""
        change, subject = noticed.change, noticed.subject
        value, threshold = change.value / MONTH_MS, change.threshold / MONTH_MS
        where = f" where {noticed.segment}" if noticed.segment else ""
        rank = 0.5 if change.effect is None else change.effect
        text = (
            f"{subject}{where}: values of late stand at {rank:.2f} of those known, without a change at 0.50"
        )
        window.count_rows()  # all so far, so that it does not matter when they were counted last
        kind: Kind = noticed.kind
        cells = next((cells for cells in window.features if cells.name == subject), None)
        share = cells.unseen_total / max(int(cells.counts.sum()), 1) if cells and kind == "feature" else 0.0
        if cells and share >= self._monitoring.new_category_share:
            kind = "category"
            text = f"{subject}{where}: {share:.1%} of the values are new: {', '.join(list(cells.unseen)[:5])}"
        finding = Finding(kind, subject, value, threshold, text)
        alarm = alarm_of_change(self.model, self.champion, finding, change, "e-detector", noticed.segment)
        self._raise(alarm, outputs)

    def _raise_harm(self, detector: str, change: Change, outputs: Outputs) -> None:
        limit = self._loss_limit()
        text = f"the log loss is above {limit:.3f} in the mean" if detector == HARM else "the losses changed"
        finding = Finding("loss", "log_loss", change.value, change.threshold, f"{detector}: {text}")
        self._raise(alarm_of_change(self.model, self.champion, finding, change, detector), outputs)

    def _raise(self, alarm: records.DriftAlarm, outputs: Outputs) -> None:
        if self._alarms.raise_once(alarm):
            outputs.drift.append(alarm)

    def _raise_rise(self, detected_at_ms: int, outputs: Outputs) -> None:
        mean, limit = self._monitor.mean_since_change, self._loss_limit()
        text = f"ADWIN: the log loss rose to {mean:.3f}"
        finding = Finding("loss", "log_loss", mean, mean if limit is None else limit, text)
        since_ms = self._monitor.change_start_ms()
        self._rise = alarm_of(self.model, self.champion, finding, detected_at_ms, since_ms, "adwin")
        if limit is None or mean > limit:  # a rise that does no harm is no alarm
            self._raise(self._rise, outputs)

    # -- harm ------------------------------------------------------------------------------------

    def _loss_limit(self) -> float | None:
        reference = self._reference(self.champion)
        return None if reference is None else reference.log_loss + self._monitoring.loss_tolerance

    def _judge_loss(self, window: Window, outputs: Outputs) -> None:
        """Raise the loss alarm, and ask for a retraining while harm lasts and nothing forbids it."""
        limit, windows = self._loss_limit(), self._monitoring.loss_windows
        recent = self._monitor.recent_loss(windows)
        harmed = False
        if limit is not None and recent is not None:
            harmed = recent > limit
            text = f"mean log loss {recent:.3f} of the last {windows} windows is above {limit:.3f}"
            finding = Finding("loss", "log_loss", recent, limit, text)
            since_ms = self._monitor.recent_start_ms(windows)
            self._alarms.observe("loss", "log_loss", drifted=harmed)
            if harmed:
                self._raise(alarm_of(self.model, self.champion, finding, window.end_ms, since_ms), outputs)
        rise = self._rise
        harmful_rise = rise is not None and (limit is None or rise.value > limit)
        if (harmed or harmful_rise) and self._may_request(window.end_ms):
            self._request(window.end_ms, [rise] if rise and harmful_rise else [], outputs)

    def _may_request(self, now_ms: int) -> bool:
        """Tell whether cooldown and labels allow it. Later requests, which a replay sees, do not count."""
        if not self._is_retrained or self._monitor.labels < self._minimum_labels:
            return False
        return not any(now_ms - self._cooldown_ms < asked < now_ms for asked in self._requested_at_ms)

    def _request(self, now_ms: int, rises: list[records.DriftAlarm], outputs: Outputs) -> None:
        evidence = [*rises, *self._alarms.standing()]
        outputs.requests.append(
            records.RetrainingRequested(
                request_id=f"{self.model}-{now_ms}",
                model=self.model,
                trigger="drift",
                requested_at_ms=now_ms,
                reason=evidence[0].message if evidence else "the log loss is above its limit",
                evidence=evidence,
                offsets={topics.predictions(self.model): list(self._read_to)},
            )
        )
        self._requested_at_ms = {
            asked for asked in self._requested_at_ms if asked > now_ms - self._cooldown_ms
        }
        self._requested_at_ms.add(now_ms)


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
            totals=Totals(),
            window=None,
            champion=0,
            references=[],
            monitor=LossMonitor(declaration.monitoring.adwin_delta, 0).state(),
            watches={},
            watchers={},
            loss_watchers={},
            rise=None,
            requested_at_ms=[],
        )
    for places, partitions in ((state.predictions, prediction_partitions), (state.labels, label_partitions)):
        if len(places) > partitions:
            raise StateError(
                f"{declaration.name}: the state has {len(places)} partitions, its topic {partitions}"
            )
        places.extend([Resume()] * (partitions - len(places)))
    state.read_to += [0] * (prediction_partitions - len(state.read_to))
    return state
