"""What the champion's rows, losses and closed windows mean: reports, alarms, and requests for retraining."""

import dataclasses
from collections.abc import Mapping, Sequence

import msgspec

from services.drift.alarms import ActiveAlarms, Detected, SubjectAlarms, quality_alarms
from services.drift.binning.binning import PredictionRows
from services.drift.detectors.watcher import WatcherState
from services.drift.loss_alarms import LossAlarms, LossAlarmsState
from services.drift.performance.harm_evidence import CohortLosses
from services.drift.performance.label_counts import LabelCountsState
from services.drift.performance.performance import PerformanceState, PerformanceTracker
from services.drift.performance.running_differences import RunningDifference, RunningDifferences
from services.drift.references import References
from services.drift.retraining_trigger import RetrainingTrigger
from services.drift.row_alarms import RowAlarms
from services.drift.windows import window_report
from services.drift.windows.window import DriftWindow
from services.model_registry.traffic_split import CHAMPION
from services.monitoring.label_join import Joined, JoinTotals, numeric_prediction
from services.monitoring.pending_predictions import PendingPrediction
from services.runtime.declaration import ModelDeclaration
from streams import records

_OTHER_ARM = -2
"""Lineage of what another arm answered, of a continual learner."""


class EvaluatorState(msgspec.Struct):
    """All that an `Evaluator` knows. Field names are those of the snapshot, which do not change."""

    champion: int
    """Version of the champion; 0 before the first."""
    monitor: LabelCountsState
    """Labels of the champion's predictions."""
    watches: dict[str, SubjectAlarms]
    """Active alarms by kind and subject."""
    watchers: dict[str, WatcherState]
    """Detectors of the rows: of all rows, of each segment, and of the scores."""
    loss_watchers: dict[str, bytes]
    """Detectors of the losses, by name."""
    requested_at_ms: list[int]
    """Times of the retraining requests within the cooldown."""
    pairs: bytes | None = None
    """Detector of the relations between features."""
    performance: PerformanceState = msgspec.field(default_factory=PerformanceState)
    mature_losses: list[CohortLosses] = []
    """Losses of the champion's mature cohorts."""
    early_losses: list[CohortLosses] = []
    """Losses of its cohorts by the labels that were known early."""
    differences: list[RunningDifference] = []
    """Differences of the other arms' losses from the champion's."""


@dataclasses.dataclass(frozen=True)
class WindowEvaluation:
    """All that follows from a closed window."""

    drift: list[records.DriftRecord]
    """Alarms, the window's report, and the performance reports that are due, in this order."""
    request: records.RetrainingRequested | None
    open_cohorts: int
    """Number of cohorts of predictions that still wait for labels."""


class Evaluator:
    """Evaluates one champion after another.

    Rows are watched many at a time, after the losses between them. So alarms are collected, each with the
    index of its record, until `take_alarms` raises them in the order of the records.
    """

    def __init__(self, declaration: ModelDeclaration, references: References, state: EvaluatorState) -> None:
        """Continue from a state; see `initial_state`."""
        self._model = declaration.name
        self._declaration = declaration
        self._sample = declaration.monitoring.sample
        self._learns = declaration.learning is not None
        self._references = references
        self.champion = state.champion
        self.trigger = RetrainingTrigger(declaration, state.requested_at_ms)
        self.active = ActiveAlarms(declaration.monitoring.alarm_windows, state.watches)
        self._performance = PerformanceTracker(declaration, state.performance)
        self.measures = self._performance.measures
        if self._performance.lineage != self._lineage(self.champion):  # a state without performance
            self._performance.follow(self._lineage(self.champion), references.get(self.champion))
        self.rows = RowAlarms(declaration, references, self.champion, state.watchers, state.pairs)
        """The detectors of the champion's rows; they know the segments of a row."""
        self.active.keep_standing(self.rows.standing())
        self.restored_segments_of = self.rows.segments_of
        """Return the segments of a prediction, by the reference of the champion of the restored state."""
        self._losses = self._new_losses(0, _losses_of(state))
        self.differences = RunningDifferences(
            self._performance.baseline, state.differences, learns=self._learns
        )
        self._detected: list[Detected] = []

    def state(self) -> EvaluatorState:
        """Return what `__init__` takes."""
        losses = self._losses.state()
        return EvaluatorState(
            champion=self.champion,
            monitor=losses.labels,
            watches=self.active.subjects,
            watchers=self.rows.watcher_states(),
            pairs=self.rows.pairs_state(),
            loss_watchers=dict(losses.watchers),
            requested_at_ms=self.trigger.times_ms,
            performance=self._performance.state(),
            mature_losses=list(losses.mature),
            early_losses=list(losses.early),
            differences=self.differences.state(),
        )

    def follow(self, version: int, window_start_ms: int) -> None:
        """Evaluate another champion from now on, without alarms or losses; take the alarms before this call.

        The versions of a model that learns continually count as one champion until they have another
        reference: only the number changes.
        """
        is_same_lineage = self.champion and self._lineage(version) == self._lineage(self.champion)
        self.champion = version
        if is_same_lineage:
            return
        self._performance.follow(self._lineage(version), self._references.get(version))
        self.active.clear()
        self.rows = RowAlarms(self._declaration, self._references, version)
        self._losses = self._new_losses(window_start_ms)

    def count_prediction(self, prediction: records.Prediction, segments: Sequence[str]) -> None:
        """Count a prediction with its segments in its cohort, if it is the champion's."""
        if prediction.score is not None and self._is_champions(prediction.version, prediction.arm):
            self._performance.add_prediction(prediction.event_time_ms, prediction.score, segments)

    def measure(self, joined: Joined) -> list[float] | None:
        """Return the value of each measure for a labelled prediction, and count them in its cohort.

        None if the prediction has no score. Those of a label that is corrected are taken out of the cohort.
        """
        entry, label, corrects = joined
        answer = numeric_prediction(entry, self.measures)
        if answer is None:
            return None
        lineage = self._lineage(entry.version, entry.arm)
        return self._performance.add_label(
            entry.event_time_ms, label.event_time_ms, lineage, answer, label.value, entry.segments, corrects
        )

    def add_rows(self, rows: PredictionRows, indices: Sequence[int], window: DriftWindow) -> None:
        """Count rows in their window and watch them; each has its index among the records in process."""
        self._detected += self.rows.add(rows, indices, window, self.champion)

    def add_loss(self, entry: PendingPrediction, values: Sequence[float], time_ms: int, index: int) -> None:
        """Watch the measures of a label, if its prediction is the champion's."""
        if self._is_champions(entry.version, entry.arm):
            self._detected += self._losses.add(self.champion, values, time_ms, index)

    def take_alarms(self) -> list[records.DriftAlarm]:
        """Raise what was detected since the last call, in the order of the records; return the new alarms."""
        detected = sorted(self._detected, key=lambda each: each.record_index)
        self._detected.clear()
        return self.active.raise_new(each.alarm for each in detected)

    def close_window(
        self, window: DriftWindow, totals: JoinTotals, offsets: Mapping[str, list[int]]
    ) -> WindowEvaluation:
        """Evaluate a window that ends now.

        Args:
            window: All its records were added.
            totals: Totals of the join, up to the window's end.
            offsets: The offsets up to which a retraining may read, by topic.
        """
        window.state.champion = self.champion
        alarms = self.active.raise_new(self.rows.watch_rest(window, self.champion))
        self._losses.close_window(window.end_ms)
        compared = window_report.compare_window(window, self._declaration)
        self.active.observe_quality(compared.quality)
        alarms += self.active.raise_new(quality_alarms(self._declaration, self.champion, compared, window))
        performance = self._performance.close_window(
            window.end_ms, self.champion, self._references.get(self.champion)
        )
        losses = self._losses.evaluate(
            self.champion,
            window.end_ms,
            self._performance.mature_losses,
            self._performance.early_losses,
            self._performance.revised_losses,
        )
        for subject, is_worse in losses.worse.items():
            self.active.observe("loss", subject, drifted=is_worse)
        alarms += self.active.raise_new(losses.alarms)
        request = self.trigger.request(
            window.end_ms, losses, self.active.evidence(), compared.contributions, offsets
        )
        window.state.alarms_standing = self.active.ids()
        sides = window_report.sides_of(window, learns=self._learns)
        if sides.lineage == self._lineage(self.champion):
            self.differences.add_window(sides.others, sides.losses, sides.lineage)
        report = self._report(window, sides, compared, totals)
        return WindowEvaluation([*alarms, report, *performance], request, self._performance.open_cohorts)

    def revised_report(self, window: DriftWindow, totals: JoinTotals) -> records.DriftReport:
        """Report a closed window again, with the records that were too late for its first report."""
        window.count_buffered()
        compared = window_report.compare_window(window, self._declaration)
        sides = window_report.sides_of(window, learns=self._learns)
        return self._report(window, sides, compared, totals)

    def _report(
        self,
        window: DriftWindow,
        sides: window_report.WindowSides,
        compared: window_report.WindowComparison,
        totals: JoinTotals,
    ) -> records.DriftReport:
        return window_report.make_report(
            self._model,
            window,
            sides,
            compared,
            totals,
            self._references,
            self.measures,
            running=self.differences,
            sample=self._sample,
        )

    def _lineage(self, version: int, arm: str = CHAMPION) -> int:
        """Return what counts as one champion, see `References.lineage`; of a learner only in its arm."""
        if self._learns and arm != CHAMPION:
            return _OTHER_ARM
        return self._references.lineage(version)

    def _is_champions(self, version: int, arm: str) -> bool:
        if version == self.champion:  # nearly always: spares the look at lineages
            return version > 0 and (arm == CHAMPION or not self._learns)
        return version > 0 and self._learns and self._lineage(version, arm) == self._lineage(self.champion)

    def _new_losses(self, window_start_ms: int, state: LossAlarmsState | None = None) -> LossAlarms:
        reference = self._references.get(self.champion)
        return LossAlarms(
            self._declaration,
            self.measures,
            self._performance.baseline,
            self._performance.estimates,
            design_effect=reference.loss_design_effect if reference else 1.0,
            window_start_ms=window_start_ms,
            state=state,
        )


def _losses_of(state: EvaluatorState) -> LossAlarmsState:
    return LossAlarmsState(state.monitor, state.loss_watchers, state.mature_losses, state.early_losses)


def initial_state() -> EvaluatorState:
    """Return the state before the first record."""
    return EvaluatorState(
        champion=0,
        monitor=LabelCountsState(),
        watches={},
        watchers={},
        loss_watchers={},
        requested_at_ms=[],
    )
