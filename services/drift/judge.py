"""What is made of the champion's rows, losses and windows: alarms, and requests for retraining."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from services.drift.alarms import Alarms, Finding, Kind, Watch, alarm_of, alarm_of_change, quality_finding
from services.drift.binning.binning import BinnedRows, PredictionRows
from services.drift.detectors.protocol import DetectedChange
from services.drift.detectors.relation_detector import PAIRS_SHOWN_MAX, relation
from services.drift.detectors.watchers import HARM, LossWatchers, ObservedChange, Watchers, WatcherState
from services.drift.performance.loss_monitor import LossMonitor, MonitorState
from services.drift.performance.performance import Performance, PerformanceState
from services.drift.references import References
from services.drift.retraining_trigger import ESTIMATE, Requests
from services.drift.windows.window import DriftWindow
from services.drift.windows.window_report import WindowComparison
from services.monitoring.label_join import PendingPrediction, numeric_prediction
from services.monitoring.model_metrics import LOG_LOSS_MAX
from services.monitoring.segments import SegmentMatcher
from services.runtime.declaration import MONTH_MS, ModelDeclaration
from streams import records

CHAMPION_WEIGHT_MIN = 5_000
"""An arm with more than half of the keys is the champion."""
RANK_MOVED_MIN = 0.05
"""A change that moves values by less is told by its bins: it is one of shape."""


class JudgeState(msgspec.Struct):
    """All that a `Judge` knows."""

    champion: int
    monitor: MonitorState
    watches: dict[str, Watch]
    watchers: dict[str, WatcherState]
    loss_watchers: dict[str, bytes]
    rise: records.DriftAlarm | None
    requested_at_ms: list[int]
    pairs: bytes | None = None
    performance: PerformanceState = msgspec.field(default_factory=PerformanceState)


class Judge:
    """Follows one champion after the other.

    What rows and losses show is held until `raised`, because rows are watched many at once: each comes with
    the place in the common order at which it was noticed, and is raised in that order.
    """

    def __init__(self, declaration: ModelDeclaration, references: References, state: JudgeState) -> None:
        """Go on from a state."""
        self.model = declaration.name
        self._monitoring = declaration.monitoring
        self._requests = Requests(declaration, state.requested_at_ms)
        self._asks_on_estimate = declaration.retraining.on_estimate
        self._learns = declaration.learning is not None
        self._references = references
        self.champion = state.champion
        self.performance = Performance(declaration, state.performance)
        self.measures = self.performance.measures
        self._promise = self.performance.promise
        if self.performance.lineage != self._lineage(self.champion):  # a state from before there was any
            self.performance.follow(self._lineage(self.champion), references.get(self.champion))
        self._monitor = self._new_monitor(0, state.monitor)
        self._alarms = Alarms(self._monitoring.alarm_windows, state.watches)
        self._watch_champion(state.watchers, state.pairs, state.loss_watchers)
        self._rise = state.rise
        self._found: list[tuple[int, records.DriftAlarm]] = []

    def state(self) -> JudgeState:
        """Return what `__init__` takes."""
        return JudgeState(
            champion=self.champion,
            monitor=self._monitor.state(),
            watches=self._alarms.watches,
            watchers=self._watchers.state(),
            pairs=self._watchers.pairs_state(),
            loss_watchers=self._loss_watchers.state(),
            rise=self._rise,
            requested_at_ms=self._requests.times_ms,
            performance=self.performance.state(),
        )

    # -- champions -------------------------------------------------------------------------------

    def is_followed_by(self, prediction: records.Prediction) -> bool:
        """Tell whether a prediction shows that another champion serves."""
        return prediction.version != self.champion and prediction.arm_weight > CHAMPION_WEIGHT_MIN

    def follow(self, version: int, window_start_ms: int) -> None:
        """Another champion serves: its losses and its alarms begin anew. Raise what was found before.

        Versions of a model that goes on learning are one champion.
        """
        goes_on = self._learns and self.champion
        self.champion = version
        if goes_on:
            return
        self.performance.follow(self._lineage(version), self._references.get(version))
        self._monitor = self._new_monitor(window_start_ms)
        self._alarms.clear()
        self._watch_champion({}, None, {})
        self._rise = None

    def _watch_champion(
        self, watchers: Mapping[str, WatcherState], pairs: bytes | None, loss_watchers: Mapping[str, bytes]
    ) -> None:
        reference = self._references.get(self.champion)
        self._segments = SegmentMatcher(reference, self._monitoring)
        self._watchers = Watchers(reference, self._monitoring, watchers, pairs)
        self._watch_losses(loss_watchers)

    def _watch_losses(self, states: Mapping[str, bytes]) -> None:
        reference = self._references.get(self.champion)
        effect = reference.loss_design_effect if reference else 1.0
        self._loss_watchers = LossWatchers(
            self._promise, effect, self._monitoring, self._watchers.streams, states
        )

    def _new_monitor(self, window_start_ms: int, state: MonitorState | None = None) -> LossMonitor:
        found = self._promise.range
        unit = 1.0 if found is None else (found.high - found.low) / LOG_LOSS_MAX
        return LossMonitor(self._monitoring.adwin_delta, window_start_ms, state, unit=unit)

    def _lineage(self, version: int) -> int:
        return min(version, 1) if self._learns else version

    # -- rows and losses -------------------------------------------------------------------------

    def take_rows(self, rows: PredictionRows, places: list[int], window: DriftWindow) -> None:
        """Count rows in their window and watch them; each has its place in the common order."""
        in_window = window.row_binner.of(rows) if window.row_binner else None
        counted = 0
        for row, noticed in self._watched(rows, window, in_window):
            window.count(rows, in_window, counted, row + 1)  # an alarm tells of the window so far
            counted = row + 1
            self._found.append((places[row], self._alarm_of_noticed(noticed, window)))
        window.count(rows, in_window, counted, len(rows))

    def take_answer(self, prediction: records.Prediction) -> Sequence[str]:
        """Count a prediction if it is the champion's; return the segments to which it belongs."""
        segments = self._segments.of(prediction.features)
        if prediction.score is not None and self._is_champions(prediction.version):
            self.performance.add_prediction(prediction.event_time_ms, prediction.score, segments)
        return segments

    def measure(self, entry: PendingPrediction, label: records.Label) -> list[float] | None:
        """Measure a prediction whose label has come, and count it for its time; None without a score."""
        given = numeric_prediction(entry, self.measures)
        if given is None:
            return None
        lineage = self._lineage(entry.version)
        return self.performance.add_label(
            entry.event_time_ms, label.event_time_ms, lineage, given, label.value, entry.segments
        )

    def take_loss(self, version: int, values: Sequence[float], time_ms: int, place: int) -> None:
        """Watch the loss of an outcome, if it is the champion's and there is something to compare it with."""
        if not self._is_champions(version):
            return
        if self._promise.see(values):
            self._monitor = self._new_monitor(self._monitor.window_start_ms)
            self._watch_losses(self._loss_watchers.state())
        if self._promise.range is None:
            return
        loss = values[self._promise.place]
        promised = self._promise.state.promised
        wrong = promised is not None and values[0] > promised
        if "accuracy" in self.measures.names:
            wrong = not values[self.measures.names.index("accuracy")]
        if self._monitor.add(loss):
            self._note_rise(time_ms, place)
        for detector, change in self._loss_watchers.add(loss, time_ms, wrong=wrong):
            self._found.append((place, self._alarm_of_harm(detector, change)))

    def raised(self) -> list[records.DriftAlarm]:
        """Raise what was found since the last call, in the common order; return what is news."""
        found = sorted(self._found, key=lambda each: each[0])
        self._found.clear()
        return [alarm for _, alarm in found if self._alarms.raise_once(alarm)]

    def _is_champions(self, version: int) -> bool:
        return version > 0 and self._lineage(version) == self._lineage(self.champion)

    def _watched(
        self, rows: PredictionRows, window: DriftWindow, in_window: BinnedRows | None
    ) -> list[tuple[int, ObservedChange]]:
        placing = self._references.placing(self.champion)
        if placing is None:
            return []
        placed = in_window if in_window is not None and placing is window.row_binner else placing.of(rows)
        return sorted(self._watchers.add(rows, placed, self.champion), key=lambda each: each[0])

    def _note_rise(self, detected_at_ms: int, place: int) -> None:
        mean, limit = self._monitor.mean_since_change, self._promise.limit
        text = f"ADWIN: the {self._promise.words} rose to {mean:.3f}"
        finding = Finding("loss", self._promise.subject, mean, mean if limit is None else limit, text)
        since_ms = self._monitor.change_start_ms()
        self._rise = alarm_of(self.model, self.champion, finding, detected_at_ms, since_ms, "adwin")
        if limit is None or mean > limit:  # a rise that does no harm is no alarm
            self._found.append((place, self._rise))

    # -- windows ---------------------------------------------------------------------------------

    def watch_rest(self, window: DriftWindow) -> list[records.DriftAlarm]:
        """Watch the rows that are held, at the end of a window; return the alarms that are news."""
        found = [self._alarm_of_noticed(noticed, window) for noticed in self._watchers.flush()]
        return [alarm for alarm in found if self._alarms.raise_once(alarm)]

    def close_window(self, end_ms: int) -> None:
        """Begin the losses of the next window."""
        self._monitor.close_window(end_ms)
        if self._promise.close_window():
            self._watch_losses(self._loss_watchers.state())

    def observe(self, found: WindowComparison) -> None:
        """Let the window say which alarms no longer hold."""
        for comparison in found.features:
            feature = comparison.drift.feature
            self._alarms.observe("feature", feature, drifted=comparison.shifted)
            self._alarms.observe("category", feature, drifted=comparison.new_categories)
        if found.score is not None:
            self._alarms.observe("score", "score", drifted=found.score.shifted)
        if found.relations is not None:
            changed = {relation(pair.first, pair.second) for pair in found.relations.pairs if pair.drifted}
            more = len(changed) >= PAIRS_SHOWN_MAX  # and who knows which others
            for subject in self._alarms.subjects("relation"):
                self._alarms.observe("relation", subject, drifted=more or subject in changed)

    def judge_quality(
        self, found: Iterable[records.FeatureQuality], start_ms: int, end_ms: int
    ) -> list[records.DriftAlarm]:
        """Raise an alarm for each declared bound that a window broke; calm windows take it back."""
        alarms = []
        for each in found:
            self._alarms.observe("quality", each.feature, drifted=each.broken)
            if each.broken:
                finding = quality_finding(each, self._monitoring.quality.get(each.feature))
                alarms.append(alarm_of(self.model, self.champion, finding, end_ms, start_ms, "declared"))
        return [alarm for alarm in alarms if self._alarms.raise_once(alarm)]

    # -- alarms ----------------------------------------------------------------------------------

    def standing_ids(self) -> list[str]:
        """Return the ids of all alarms that stand."""
        return self._alarms.standing_ids()

    def _alarm_of_noticed(self, noticed: ObservedChange, window: DriftWindow) -> records.DriftAlarm:
        """Tell what a detector found in a feature or in the scores; new categories are called so."""
        change, subject = noticed.change, noticed.subject
        value, threshold = change.value / MONTH_MS, change.threshold / MONTH_MS
        where = f" where {noticed.segment}" if noticed.segment else ""
        contributions = window.contributions(subject, noticed.segment)
        text = noticed.text or f"{subject}{where}: {words(change.effect, contributions)}"
        kind: Kind = noticed.kind
        cells = next((cells for cells in window.features if cells.name == subject), None)
        share = cells.unseen_total / max(int(cells.counts.sum()), 1) if cells and kind == "feature" else 0.0
        if cells and share >= self._monitoring.new_category_share:
            kind = "category"
            text = f"{subject}{where}: {share:.1%} of the values are new: {', '.join(list(cells.unseen)[:5])}"
        finding = Finding(kind, subject, value, threshold, text)
        alarm = alarm_of_change(self.model, self.champion, finding, change, "e-detector", noticed.segment)
        return msgspec.structs.replace(alarm, contributions=contributions)

    def _alarm_of_harm(self, detector: str, change: DetectedChange) -> records.DriftAlarm:
        limit, words = self._promise.limit, self._promise.words
        text = f"the {words} is above {limit:.3f} in the mean" if detector == HARM else "the losses changed"
        finding = Finding(
            "loss", self._promise.subject, change.value, change.threshold, f"{detector}: {text}"
        )
        return alarm_of_change(self.model, self.champion, finding, change, detector)

    # -- harm ------------------------------------------------------------------------------------

    def learn_request(self, requested_at_ms: int) -> None:
        """Learn that a retraining was asked for: it starts the cooldown."""
        self._requests.learn(requested_at_ms)

    def judge_harm(
        self, end_ms: int, offsets: Mapping[str, list[int]], contributions: Sequence[records.Contribution]
    ) -> tuple[list[records.DriftAlarm], list[records.RetrainingRequested]]:
        """Raise the alarms of harm at the end of a window; ask for a retraining while harm lasts.

        What asks is the loss of labels as they become known: in a steady stream early and late ones are mixed
        there as they are in whole cohorts, and it needs no wait. What features show asks for nothing.
        """
        realised, estimated = self._realised_harm(end_ms), self._estimated_harm(end_ms)
        alarms = [alarm for alarm in (realised, estimated) if alarm and self._alarms.raise_once(alarm)]
        limit, rise = self._promise.limit, self._rise
        self._rise = None
        if rise is not None and limit is not None and rise.value <= limit:
            rise = None
        cause = rise or realised or (estimated if self._asks_on_estimate else None)
        if cause is None or not self._requests.may_ask(end_ms, self._monitor.labels):
            return alarms, []
        evidence = [*([rise] if rise else []), *self._alarms.standing()]
        labels_since = self._monitor.labels_since(cause.since_ms)
        request = self._requests.make(end_ms, evidence, cause, labels_since, offsets)
        return alarms, [msgspec.structs.replace(request, contributions=list(contributions))]

    def _realised_harm(self, end_ms: int) -> records.DriftAlarm | None:
        limit, windows = self._promise.limit, self._monitoring.loss_windows
        recent = self._monitor.recent_loss(windows)
        if limit is None or recent is None:
            return None
        self._alarms.observe("loss", self._promise.subject, drifted=recent > limit)
        words = self._promise.words
        text = f"mean {words} {recent:.3f} of the last {windows} windows is above {limit:.3f}"
        finding = Finding("loss", self._promise.subject, recent, limit, text)
        since_ms = self._monitor.recent_start_ms(windows)
        return alarm_of(self.model, self.champion, finding, end_ms, since_ms) if recent > limit else None

    def _estimated_harm(self, end_ms: int) -> records.DriftAlarm | None:
        """Return an alarm if estimates that have been right of late are above the limit by more than that."""
        limit, found = self._promise.limit, self.performance.reconciliation
        recent, error = found.recent, found.error
        if limit is None or recent is None or error is None:
            return None
        harmed = error <= self._promise.tolerance and recent > limit + error
        subject, words = f"estimated_{self._promise.subject}", self._promise.words
        self._alarms.observe("loss", subject, drifted=harmed)
        text = (
            f"the {words} estimated for the last {self._monitoring.loss_windows} windows is {recent:.3f}, "
            f"above {limit:.3f}; of late such estimates were off by at most {error:.3f}"
        )
        finding = Finding("loss", subject, recent, limit + error, text)
        since_ms = found.recent_start_ms
        return alarm_of(self.model, self.champion, finding, end_ms, since_ms, ESTIMATE) if harmed else None


def fresh(declaration: ModelDeclaration) -> JudgeState:
    """Return the state before the first record."""
    return JudgeState(
        champion=0,
        monitor=LossMonitor(declaration.monitoring.adwin_delta, 0).state(),
        watches={},
        watchers={},
        loss_watchers={},
        rise=None,
        requested_at_ms=[],
    )


def words(effect: float | None, contributions: Sequence[records.Contribution]) -> str:
    """Say how values differ: by where they stand, or, where that is hardly moved, by the bin that is."""
    rank = 0.5 if effect is None else effect
    if abs(rank - 0.5) >= RANK_MOVED_MIN or not contributions:
        return f"values of late stand at {rank:.2f} of those known, without a change at 0.50"
    most = contributions[0]
    return (
        "other values than those known, though neither higher nor lower; in this window most of all "
        f"{most.bin}: {most.share:.1%}, where {most.expected_share:.1%} were expected"
    )
