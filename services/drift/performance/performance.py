"""How well the champion performs, by cohort of its predictions: realised, estimated, with intervals. Pure.

Labels are counted for the window in which their *prediction* was made, and a window's figures count once
nearly all of its labels have come (`label_maturity`). Running figures since the promotion take mature cohorts
only, and later labels of these as they come. All figures are a function of predictions and labels, whatever
their order within a window.
"""

from collections.abc import Sequence

import msgspec

from services.drift.performance import performance_report
from services.drift.performance.cohorts import (
    RAW,
    SHARE_STEPS,
    CohortState,
    LabelledRow,
    LabelRole,
    PredictionCohort,
    PredictionRow,
)
from services.drift.performance.confidence_intervals import MeanConfidenceSequence
from services.drift.performance.cost_totals import CostTotals, CostTotalsState
from services.drift.performance.early_losses import EarlyLabels, group_of, groups_of, mature_losses
from services.drift.performance.harm_evidence import CohortLosses
from services.drift.performance.label_maturity import LabelDelays
from services.drift.performance.loss_baseline import LossBaseline, LossBaselineState
from services.drift.performance.outcome_counts import OutcomeCounter
from services.drift.performance.performance_estimation import (
    EstimateTracker,
    EstimateTrackerState,
    PerformanceEstimator,
    PerformanceEstimatorState,
)
from services.monitoring.label_join import Correction
from services.monitoring.model_metrics import Measures, NumericPrediction
from services.runtime.declaration import ModelDeclaration
from streams import records
from streams.inputs import BEFORE_ALL_MS

COHORTS_MAX = 256
"""Maximum open cohorts: where the label horizon has more windows, a cohort covers several of them."""
RECENT_REACH = 4
"""Recent estimates reach back at most this many times the declared number of windows, empty ones between them
included."""
ROWS_BUFFERED_MAX = 4096
"""Maximum predictions and labels in the buffer before they are summed together."""

CohortKey = tuple[int, int]
"""Start of a cohort in ms, and the version."""


class PerformanceState(msgspec.Struct):
    """All that a `PerformanceTracker` knows."""

    lineage: int = 0
    closed_ms: int = BEFORE_ALL_MS
    """Everything before this event time has been processed."""
    cohorts: list[CohortState] = []
    delays: list[int] = []
    estimator: PerformanceEstimatorState = msgspec.field(
        default_factory=PerformanceEstimatorState, name="scores"
    )
    estimates: EstimateTrackerState = msgspec.field(
        default_factory=EstimateTrackerState, name="reconciliation"
    )
    running: dict[str, list[MeanConfidenceSequence]] = {}
    baseline: LossBaselineState = msgspec.field(default_factory=LossBaselineState, name="promise")
    group_delays: list[list[int]] = []
    costs: CostTotalsState = msgspec.field(default_factory=CostTotalsState)


class PerformanceTracker:
    """Tracks the performance of one model, from champion to champion."""

    def __init__(self, declaration: ModelDeclaration, state: PerformanceState | None = None) -> None:
        """Continue from a state."""
        state = state or PerformanceState()
        self._model = declaration.name
        self._unit = declaration.business.unit if declaration.business else ""
        self.measures = Measures(declaration)
        self._counter = OutcomeCounter(self.measures)
        self._mature_share = declaration.monitoring.mature_share
        self._sample = declaration.monitoring.sample
        self._horizon_ms, self._waits_ms = declaration.label.horizon_ms, declaration.label.waits_ms
        window_ms = declaration.monitoring.window_ms
        self.cohort_ms = window_ms * -(-self._waits_ms // (window_ms * COHORTS_MAX))
        """Length of a cohort."""
        self._windows = declaration.monitoring.loss_windows
        self.lineage = state.lineage
        """Whose predictions are counted: see `follow`."""
        self._closed_ms = state.closed_ms
        self._estimator = PerformanceEstimator(len(self.measures.names), state.estimator)
        self._delays = LabelDelays(self._horizon_ms, state.delays)
        self._early = EarlyLabels(self._horizon_ms, groups_of(self.measures), state.group_delays)
        self.mature_losses = list[CohortLosses]()
        """Losses of the champion's cohorts that became mature when the last window closed."""
        self.early_losses = list[CohortLosses]()
        """Weighted losses of cohorts of which enough labels were known then, for the first time."""
        self.revised_losses = list[CohortLosses]()
        """Losses of mature cohorts that ended then, if labels were corrected after they became mature."""
        self._reach_ms = RECENT_REACH * self._windows * self.cohort_ms
        self.estimates = EstimateTracker(self._windows, self._reach_ms, state.estimates)
        self._running = {name: list(each) for name, each in state.running.items()}
        self._costs = CostTotals(self.measures.names, state.costs)
        self.baseline = LossBaseline(declaration, self.measures)
        self.baseline.restore(state.baseline)
        self._cohorts = {
            (each.start_ms, each.version): self._new_cohort(each.start_ms, each) for each in state.cohorts
        }
        self._predictions: dict[CohortKey, list[PredictionRow]] = {}
        self._labels: dict[CohortKey, list[LabelledRow]] = {}
        self._rows_buffered = 0

    def follow(self, lineage: int, reference: records.Reference | None) -> None:
        """Begin with another champion; only the estimates of earlier cohorts remain.

        Args:
            lineage: Its version; of a continual learner the first version, for all versions.
            reference: What it was trained on.
        """
        self._flush()
        for cohort in self._cohorts.values():
            if cohort.version == self.lineage and not cohort.reports:
                self._estimate(cohort)
            cohort.forget_cells()
        self.lineage = lineage
        self._estimator.follow(*_held_out_scores(reference, self.measures))
        self.estimates = EstimateTracker(self._windows, self._reach_ms)
        self._running = {}
        self.baseline.follow(reference)

    def add_prediction(self, time_ms: int, score: float, segments: Sequence[str]) -> None:
        """Count a prediction of the champion, unless no label of its cohort can come any more."""
        start_ms = time_ms // self.cohort_ms * self.cohort_ms
        if start_ms + self.cohort_ms + self._waits_ms <= self._closed_ms:
            return
        key = start_ms, self.lineage
        if key not in self._cohorts:
            self._cohorts[key] = self._new_cohort(start_ms)
        if not self._estimator.cells:
            self._estimator.add_first(score)
        self._predictions.setdefault(key, []).append((time_ms, score, segments))
        self._count_buffered()

    def add_label(
        self,
        time_ms: int,
        label_time_ms: int,
        lineage: int,
        answer: NumericPrediction,
        label: float,
        segments: Sequence[str],
        corrects: Correction | None = None,
    ) -> list[float]:
        """Take the label of a prediction that was made at ``time_ms``; return the value of each measure.

        One that corrects another takes its place, as if it alone had come, but the cohort keeps the delay of
        the first.
        """
        values = self.measures.values(answer, label)
        key = time_ms // self.cohort_ms * self.cohort_ms, lineage
        if key not in self._cohorts:
            return values

        def row(known_ms: int | None, given: float, values: list[float], role: LabelRole) -> LabelledRow:
            cell = None if known_ms is None else self._delays.cell_of(known_ms - time_ms)
            group, score_cell = group_of(self.measures, answer, given), self._estimator.cell_of(answer.score)
            positive = float(given == 1) if self.measures.task == "binary" else 0.0
            outcome = self._counter.outcome_of(answer, given)
            return LabelledRow(segments, score_cell, group, cell, positive, values, outcome, role)

        rows, role = self._labels.setdefault(key, []), LabelRole.FIRST
        if corrects is not None:
            replaced, role = self.measures.values(answer, corrects.label), LabelRole.CORRECTION
            rows.append(row(corrects.label_time_ms, corrects.label, replaced, LabelRole.REPLACED))
        rows.append(row(label_time_ms, label, values, role))
        self._count_buffered()
        return values

    def close_window(
        self, now_ms: int, version: int, reference: records.Reference | None = None
    ) -> list[records.PerformanceReport]:
        """Report the cohorts that are new, mature or complete at the end of a window.

        Args:
            now_ms: Everything before this event time has been processed.
            version: The champion's.
            reference: Its reference, if it has one.
        """
        self._costs.follow(self.lineage, reference)
        self._flush()
        self._closed_ms = now_ms
        self.mature_losses, self.early_losses, self.revised_losses = [], [], []
        reports = []
        for key in sorted(self._cohorts):
            cohort = self._cohorts[key]
            is_complete = now_ms >= cohort.end_ms + self._horizon_ms
            is_over = now_ms >= cohort.end_ms + self._waits_ms
            if cohort.end_ms > now_ms or (cohort.mature and not is_over):
                continue
            if not cohort.reports:
                self._estimate(cohort)
            maturity = 1.0 if is_complete else self._maturity(cohort, now_ms)
            is_newly_mature = not cohort.mature and maturity is not None and maturity >= self._mature_share
            if is_newly_mature:
                self._mark_mature(cohort, maturity or 1.0)
            elif is_complete:
                self._add_to_running(cohort)
                if cohort.version == self.lineage:
                    self.revised_losses += _revised_losses(cohort, self.baseline.index)
            if (is_newly_mature or not cohort.mature) and cohort.version == self.lineage:
                self.early_losses += self._early.take(cohort, self.baseline.limit_share, now_ms)
            has_new_labels = (cohort.all.labels, cohort.corrections) != cohort.reported
            if not cohort.reports or is_newly_mature or (is_complete and has_new_labels):
                reports.append(self._report(cohort, now_ms, version, maturity, is_complete=is_complete))
            if is_over:
                self._delays.learn(cohort.delays)
                self._early.learn(cohort)
                del self._cohorts[key]
        return reports

    @property
    def open_cohorts(self) -> int:
        """Number of cohorts that wait for labels."""
        return len(self._cohorts)

    def state(self) -> PerformanceState:
        """Return what `__init__` takes."""
        self._flush()
        return PerformanceState(
            self.lineage,
            self._closed_ms,
            [self._cohorts[key].state() for key in sorted(self._cohorts)],
            self._delays.counts.tolist(),
            self._estimator.state(),
            self.estimates.state(),
            self._running,
            self.baseline.state,
            self._early.state(),
            self._costs.state,
        )

    def _new_cohort(self, start_ms: int, state: CohortState | None = None) -> PredictionCohort:
        """Begin a cohort of the champion, or restore one."""
        error_max = state.error_max if state else self.baseline.state.error_max
        return PredictionCohort(
            start_ms,
            state.end_ms if state else start_ms + self.cohort_ms,
            state.version if state else self.lineage,
            cells=len(state.cells) if state else self._estimator.cells,
            measures=len(self.measures.names),
            ranges=self.measures.ranges(error_max),
            judged=self.baseline.index,
            groups=self._early.groups,
            error_max=error_max,
            outcomes=(self._counter.outcomes, self._counter.segment_outcomes),
            state=state,
        )

    def _count_buffered(self) -> None:
        self._rows_buffered += 1
        if self._rows_buffered >= ROWS_BUFFERED_MAX:
            self._flush()

    def _flush(self) -> None:
        """Add the buffered rows to the sums of their cohorts."""
        for key, predictions in self._predictions.items():
            self._cohorts[key].add_predictions(predictions, self._estimator.edges)
        for key, labels in self._labels.items():
            self._cohorts[key].add_labels(labels)
        self._predictions.clear()
        self._labels.clear()
        self._rows_buffered = 0

    def _maturity(self, cohort: PredictionCohort, now_ms: int) -> float | None:
        """Return the share of the cohort's labels that have come by now, according to past delays."""
        shares = self._delays.shares(cohort.ages_ms(now_ms))
        if shares is None or not cohort.all.predictions:
            return None
        return float(cohort.slots @ shares / cohort.all.predictions)

    def _estimate(self, cohort: PredictionCohort) -> None:
        """Estimate a cohort from its scores, unless they were not counted."""
        if not cohort.has_cells or cohort.version != self.lineage:
            return
        for each in cohort.segments.values():
            each.estimates = self._estimator.estimate(each.scores) or []
            if self.measures.task == "binary":
                each.estimated_auc = self._estimator.estimate_auc(each.scores)
                each.estimated_positives = self._estimator.estimate_positives(each.scores)
        if cohort.all.estimates:
            estimate = cohort.all.estimates[self.baseline.index]
            outside = self._estimator.outside_share(cohort.all.scores)
            self.estimates.add_estimate(cohort.start_ms, cohort.all.predictions, estimate, outside)
            cohort.outside = outside

    def _mark_mature(self, cohort: PredictionCohort, maturity: float) -> None:
        """Let a cohort count for the errors of the estimates, the running figures and evidence of harm."""
        cohort.mature = True
        if cohort.version == self.lineage:
            losses = mature_losses(cohort, self.baseline.index, maturity)
            self.mature_losses += [losses] if losses is not None else []
        whole = cohort.all
        if cohort.version == self.lineage and whole.estimates and whole.labels:
            index = self.baseline.index
            gap = float(whole.moments[index, RAW] / whole.labels) - whole.estimates[index]
            self.estimates.add_gap(whole.labels, gap)
        self._add_to_running(cohort)

    def _add_to_running(self, cohort: PredictionCohort) -> None:
        """Add what is new since the last call to the running figures, estimator and costs."""
        is_present = cohort.version == self.lineage
        if is_present and cohort.has_cells:
            self._estimator.learn(cohort.take_new_cells())
        for segment, each in cohort.segments.items():
            labels, moments = each.take_new()
            if not segment:
                self._costs.add(cohort.version, labels, moments)
            if is_present and cohort.ranges is not None and (labels or segment in self._running):
                running = self._running.setdefault(
                    segment, [MeanConfidenceSequence() for _ in self.measures.names]
                )
                for sequence, (_, _, shares, squares) in zip(running, moments.tolist(), strict=True):
                    sequence.add(labels, shares / SHARE_STEPS, squares / SHARE_STEPS**2)

    def _report(
        self,
        cohort: PredictionCohort,
        now_ms: int,
        version: int,
        maturity: float | None,
        *,
        is_complete: bool,
    ) -> records.PerformanceReport:
        whole = cohort.all
        revision, cohort.reports = cohort.reports, cohort.reports + 1
        cohort.reported = whole.labels, cohort.corrections
        if not cohort.reported_version:
            cohort.reported_version = version if cohort.version == self.lineage else cohort.version
        running = self._running if cohort.version == self.lineage else {}
        return records.PerformanceReport(
            report_id=f"{self._model}-performance-{cohort.version}-{cohort.start_ms}-{cohort.end_ms}",
            model=self._model,
            version=cohort.reported_version,
            window_start_ms=cohort.start_ms,
            window_end_ms=cohort.end_ms,
            as_of_ms=now_ms,
            revision=revision,
            state="complete" if is_complete else "mature" if cohort.mature else "provisional",
            predictions=whole.predictions,
            labels=whole.labels,
            corrections=cohort.corrections,
            maturity=maturity,
            segments=performance_report.segments_of(cohort, self.measures, running),
            threshold=self._counter.threshold,
            thresholds=self._counter.thresholds,
            classes=self._counter.classes,
            judged=self.baseline.measure,
            estimate_error=self.estimates.error,
            estimate_outside=cohort.outside,
            unit=self._unit,
            cost=self._costs.account(cohort),
            sample=self._sample,
        )


def _revised_losses(cohort: PredictionCohort, measure: int) -> list[CohortLosses]:
    """Return the losses of a cohort whose horizon has passed, if labels were corrected since its last report.

    That one was written when it became mature.
    """
    if cohort.corrections == cohort.reported[1]:
        return []
    losses = mature_losses(cohort, measure, 1.0)
    return [] if losses is None else [losses]


def _held_out_scores(
    reference: records.Reference | None, measures: Measures
) -> tuple[list[float], list[list[float]]]:
    """Return the edges of the scores and the sums by cell of held-out rows; empty where they are unknown."""
    if reference is None or reference.score is None or reference.score.edges is None:
        return [], []
    names, sums = ("labels", "positives", *measures.names), reference.score_sums
    if not sums.keys() >= set(names):  # written before there were sums, or before a cost was declared
        return reference.score.edges, []
    columns = [sums[name] for name in names]
    return reference.score.edges, [list(row) for row in zip(*columns, strict=True)]
