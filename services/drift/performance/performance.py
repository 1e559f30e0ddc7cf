"""How well the champion does: by cohort of its predictions, with intervals, and estimated before labels come.

Labels are counted for the window in which their *prediction* was made, and what is said of a window counts
once nearly all of its labels are there (`maturity`). Figures that run on since the promotion take mature
cohorts only, and labels that come later as they come. Pure; a function of predictions and labels, whatever
their order within a window.
"""

from collections.abc import Sequence

import msgspec

from services.drift.performance.cohorts import (
    RAW,
    RAW_SQUARES,
    SHARE_STEPS,
    Asked,
    Cohort,
    CohortState,
    Labelled,
    Numbers,
    Slice,
)
from services.drift.performance.confidence_intervals import MeanSequence, normal_interval
from services.drift.performance.label_maturity import Delays
from services.drift.performance.loss_baseline import Promise, PromiseState
from services.drift.performance.performance_estimation import (
    LABELS,
    POSITIVES,
    Reconciliation,
    ReconciliationState,
    ScoreMap,
    ScoreMapState,
    auc,
)
from services.monitoring.model_metrics import MeasureRange, Measures, NumericPrediction
from services.runtime.declaration import ModelDeclaration
from streams import records
from streams.inputs import BEFORE_ALL_MS

COHORTS_MAX = 256
"""Open at the same time: where the label horizon has more windows, a cohort is several of them."""
ROWS_HELD_MAX = 4096
"""Predictions and labels kept until they are summed together."""

Key = tuple[int, int]
"""When a cohort began, and the version."""


class PerformanceState(msgspec.Struct):
    """All that a `Performance` knows."""

    lineage: int = 0
    closed_ms: int = BEFORE_ALL_MS
    """Everything before has been processed."""
    cohorts: list[CohortState] = []
    delays: list[int] = []
    scores: ScoreMapState = msgspec.field(default_factory=ScoreMapState)
    reconciliation: ReconciliationState = msgspec.field(default_factory=ReconciliationState)
    running: dict[str, list[MeanSequence]] = {}
    promise: PromiseState = msgspec.field(default_factory=PromiseState)


class Performance:
    """Follows one model."""

    def __init__(self, declaration: ModelDeclaration, state: PerformanceState | None = None) -> None:
        """Go on from a state."""
        state = state or PerformanceState()
        self._model = declaration.name
        self._unit = declaration.business.unit if declaration.business else ""
        self.measures = Measures(declaration)
        self._mature_share = declaration.monitoring.mature_share
        self._horizon_ms = declaration.label.horizon_ms
        window_ms = declaration.monitoring.window_ms
        self._cohort_ms = window_ms * -(-self._horizon_ms // (window_ms * COHORTS_MAX))
        self._windows = declaration.monitoring.loss_windows
        self.lineage = state.lineage
        """Whose predictions are counted: see `follow`."""
        self._closed_ms = state.closed_ms
        self._scores = ScoreMap(len(self.measures.names), state.scores)
        self._delays = Delays(self._horizon_ms, state.delays)
        self.reconciliation = Reconciliation(self._windows, state.reconciliation)
        self._running = {name: list(each) for name, each in state.running.items()}
        self.promise = Promise(declaration, self.measures)
        self.promise.restore(state.promise)
        self._cohorts = {(each.start_ms, each.version): self._restored(each) for each in state.cohorts}
        self._asked: dict[Key, list[Asked]] = {}
        self._labelled: dict[Key, list[Labelled]] = {}
        self._rows_held = 0

    def follow(self, lineage: int, reference: records.Reference | None) -> None:
        """Another champion: estimates of what it did not answer stand, all else begins anew.

        Args:
            lineage: Its version; of a model that goes on learning the first one, for all its versions.
            reference: What it was trained on.
        """
        self._flush()
        for cohort in self._cohorts.values():
            if cohort.version == self.lineage and not cohort.reports:
                self._estimate(cohort)
            cohort.forget_cells()
        self.lineage = lineage
        self._scores.follow(*_known_scores(reference, self.measures))
        self.reconciliation = Reconciliation(self._windows)
        self._running = {}
        self.promise.follow(reference)

    def add_prediction(self, time_ms: int, score: float, segments: Sequence[str]) -> None:
        """Count a prediction of the champion, unless it comes later than labels of its window may."""
        start_ms = time_ms // self._cohort_ms * self._cohort_ms
        if start_ms + self._cohort_ms + self._horizon_ms <= self._closed_ms:
            return
        key = start_ms, self.lineage
        if key not in self._cohorts:
            self._cohorts[key] = self._new(start_ms)
        if not self._scores.cells:
            self._scores.see(score)
        self._asked.setdefault(key, []).append((time_ms, score, segments))
        self._hold()

    def add_label(
        self,
        time_ms: int,
        label_time_ms: int,
        lineage: int,
        given: NumericPrediction,
        label: float,
        segments: Sequence[str],
    ) -> list[float]:
        """Take the label of a prediction that was made at a time; return the value of each measure."""
        values = self.measures.values(given, label)
        key = time_ms // self._cohort_ms * self._cohort_ms, lineage
        if key in self._cohorts:
            row = Labelled(
                segments,
                self._scores.cell_of(given.score),
                self._delays.cell_of(label_time_ms - time_ms),
                float(label == 1) if self.measures.task == "binary" else 0.0,
                values,
            )
            self._labelled.setdefault(key, []).append(row)
            self._hold()
        return values

    def close_window(self, now_ms: int, version: int) -> list[records.PerformanceReport]:
        """Report the cohorts of which there is news when all before a time has been processed."""
        self._flush()
        self._closed_ms = now_ms
        reports = []
        for key in sorted(self._cohorts):
            cohort = self._cohorts[key]
            complete = now_ms >= cohort.end_ms + self._horizon_ms
            if cohort.end_ms > now_ms or (cohort.mature and not complete):
                continue
            if not cohort.reports:
                self._estimate(cohort)
            maturity = 1.0 if complete else self._maturity(cohort, now_ms)
            ripened = not cohort.mature and maturity is not None and maturity >= self._mature_share
            if ripened:
                self._ripen(cohort)
            elif complete:
                self._settle(cohort)
            if not cohort.reports or ripened or (complete and cohort.all.labels > cohort.reported_labels):
                reports.append(self._report(cohort, now_ms, version, maturity, complete=complete))
            if complete:
                self._delays.learn(cohort.delays)
                del self._cohorts[key]
        return reports

    @property
    def cohorts(self) -> int:
        """How many wait for labels."""
        return len(self._cohorts)

    def state(self) -> PerformanceState:
        """Return what `__init__` takes."""
        self._flush()
        return PerformanceState(
            self.lineage,
            self._closed_ms,
            [self._cohorts[key].state() for key in sorted(self._cohorts)],
            self._delays.counts.tolist(),
            self._scores.state(),
            self.reconciliation.state(),
            self._running,
            self.promise.state,
        )

    # -- cohorts ---------------------------------------------------------------------------------

    def _new(self, start_ms: int) -> Cohort:
        return Cohort(
            start_ms,
            start_ms + self._cohort_ms,
            self.lineage,
            cells=self._scores.cells,
            measures=len(self.measures.names),
            ranges=self.measures.ranges(self.promise.state.error_max),
            error_max=self.promise.state.error_max,
        )

    def _restored(self, state: CohortState) -> Cohort:
        return Cohort(
            state.start_ms,
            state.end_ms,
            state.version,
            cells=len(state.cells),
            measures=len(self.measures.names),
            ranges=self.measures.ranges(state.error_max),
            error_max=state.error_max,
            state=state,
        )

    def _hold(self) -> None:
        self._rows_held += 1
        if self._rows_held >= ROWS_HELD_MAX:
            self._flush()

    def _flush(self) -> None:
        """Put the rows held into the sums of their cohorts."""
        for key, asked in self._asked.items():
            self._cohorts[key].add_predictions(asked, self._scores.edges)
        for key, labelled in self._labelled.items():
            self._cohorts[key].add_labels(labelled)
        self._asked.clear()
        self._labelled.clear()
        self._rows_held = 0

    def _maturity(self, cohort: Cohort, now_ms: int) -> float | None:
        """Return the share of the cohort's labels that have come by now, as delays of the past have it."""
        shares = self._delays.shares(cohort.ages_ms(now_ms))
        if shares is None or not cohort.all.predictions:
            return None
        return float(cohort.slots @ shares / cohort.all.predictions)

    def _estimate(self, cohort: Cohort) -> None:
        """Estimate a cohort by what is known now, unless its scores were not counted."""
        if not cohort.has_cells or cohort.version != self.lineage:
            return
        for each in cohort.slices.values():
            each.estimates = self._scores.estimate(each.scores) or []
            if self.measures.task == "binary":
                each.estimated_auc = self._scores.estimate_auc(each.scores)
        if cohort.all.estimates:
            estimate = cohort.all.estimates[self.promise.place]
            self.reconciliation.add_estimate(cohort.start_ms, cohort.all.predictions, estimate)

    def _ripen(self, cohort: Cohort) -> None:
        """Let a cohort whose labels are there count: for the estimates, and for what runs on."""
        cohort.mature = True
        whole = cohort.all
        if cohort.version == self.lineage and whole.estimates and whole.labels:
            place = self.promise.place
            gap = float(whole.moments[place, RAW] / whole.labels) - whole.estimates[place]
            self.reconciliation.add_gap(whole.labels, gap)
        self._settle(cohort)

    def _settle(self, cohort: Cohort) -> None:
        if cohort.version != self.lineage:
            return
        if cohort.has_cells:
            self._scores.learn(cohort.settle_cells())
        if cohort.ranges is None:
            return
        for segment, each in cohort.slices.items():
            labels, moments = each.settle()
            if labels:
                running = self._running.setdefault(segment, [MeanSequence() for _ in self.measures.names])
                for sequence, (_, _, shares, squares) in zip(running, moments.tolist(), strict=True):
                    sequence.add(labels, shares / SHARE_STEPS, squares / SHARE_STEPS**2)

    # -- reports ---------------------------------------------------------------------------------

    def _report(
        self, cohort: Cohort, now_ms: int, version: int, maturity: float | None, *, complete: bool
    ) -> records.PerformanceReport:
        whole = cohort.all
        revision, cohort.reports = cohort.reports, cohort.reports + 1
        cohort.reported_labels = whole.labels
        if not cohort.reported_version:
            cohort.reported_version = version if cohort.version == self.lineage else cohort.version
        names = sorted(cohort.slices)  # "" is first
        return records.PerformanceReport(
            report_id=f"{self._model}-performance-{cohort.version}-{cohort.start_ms}-{cohort.end_ms}",
            model=self._model,
            version=cohort.reported_version,
            window_start_ms=cohort.start_ms,
            window_end_ms=cohort.end_ms,
            as_of_ms=now_ms,
            revision=revision,
            state="complete" if complete else "mature" if cohort.mature else "provisional",
            predictions=whole.predictions,
            labels=whole.labels,
            maturity=maturity,
            segments=[self._segment(cohort, name) for name in names],
            judged=self.promise.subject,
            estimate_error=self.reconciliation.error,
            unit=self._unit,
        )

    def _segment(self, cohort: Cohort, name: str) -> records.SegmentPerformance:
        each = cohort.slices[name]
        running = self._running.get(name, []) if cohort.version == self.lineage else []
        figures = [
            self._figure(measure, each, number, cohort.ranges, running)
            for number, measure in enumerate(self.measures.names)
        ]
        if self.measures.task == "binary":
            figures.append(_auc_figure(each, cohort.cells if not name else None))
        return records.SegmentPerformance(
            segment=name,
            predictions=each.predictions,
            labels=each.labels,
            running_labels=running[0].count if running else 0,
            figures=figures,
        )

    def _figure(
        self,
        measure: str,
        each: Slice,
        number: int,
        ranges: Sequence[MeasureRange] | None,
        running: list[MeanSequence],
    ) -> records.Figure:
        realised = low = high = None
        if each.labels:
            moments = each.moments[number]
            realised = float(moments[RAW] / each.labels)
            if ranges is not None:
                reach = (ranges[number].high - ranges[number].low) / 2
                low, high = normal_interval(
                    each.labels, float(moments[RAW]), float(moments[RAW_SQUARES]), reach
                )
        estimated = each.estimates[number] if each.estimates else None
        figure = records.Figure(
            measure=measure,
            realised=realised,
            low=low,
            high=high,
            estimated=estimated,
            gap=None if realised is None or estimated is None else realised - estimated,
        )
        if not running or ranges is None:
            return figure
        floor, height = ranges[number].low, ranges[number].high - ranges[number].low
        mean, bounds = running[number].mean, running[number].interval()
        return msgspec.structs.replace(
            figure,
            running=floor + height * mean,
            running_low=floor + height * bounds[0],
            running_high=floor + height * bounds[1],
        )


def _auc_figure(each: Slice, cells: Numbers | None) -> records.Figure:
    realised = auc(cells[:, LABELS], cells[:, POSITIVES]) if cells is not None and len(cells) else None
    estimated = each.estimated_auc
    gap = None if realised is None or estimated is None else realised - estimated
    return records.Figure(measure="auc", realised=realised, estimated=estimated, gap=gap)


def _known_scores(
    reference: records.Reference | None, measures: Measures
) -> tuple[list[float], list[list[float]]]:
    """Return the edges of the scores, and the sums of each cell: both empty where the reference has none."""
    if reference is None or reference.score is None or reference.score.edges is None:
        return [], []
    names, sums = ("labels", "positives", *measures.names), reference.score_sums
    if not sums.keys() >= set(names):  # of a version from before, or cost is declared since
        return reference.score.edges, []
    columns = [sums[name] for name in names]
    return reference.score.edges, [list(row) for row in zip(*columns, strict=True)]
