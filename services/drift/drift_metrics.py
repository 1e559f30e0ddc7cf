"""Metrics of the drift process, taken from the outputs of the engine, which has none itself."""

import contextlib
import math
from collections.abc import Mapping

import msgspec
from prometheus_client import Gauge

from services.drift.engine import DriftOutputs, Engine
from services.monitoring import arm_comparison, error_budget, outcome_tables
from services.monitoring.arm_comparison import CallTimeRatio, FailureDifference
from services.monitoring.label_join import JoinTotals
from services.runtime import metrics
from services.runtime.declaration import ModelDeclaration
from streams import records
from streams.inputs import BEFORE_ALL_MS

P_VALUE_MIN = 1e-300
"""Smallest p-value shown; smaller ones are shown as this."""
VALUES_FEATURES_MAX = 100
"""Maximum features whose statistics are among the metrics: 14 series each."""
QUANTILES = ("p05", "p25", "p50", "p75", "p95")
MATRIX_CLASSES_MAX = 10
"""Maximum classes of a confusion matrix among the metrics: 100 series."""

_LABEL_RESULTS: Mapping[str, str] = {
    "joined": "joined",
    "orphaned": "orphaned",
    "misdated": "misdated",
    "corrected": "corrected",
    "duplicate": "duplicate",
    "superseded": "superseded",
    "implied": "implied",
}
_RECORD_RESULTS: Mapping[str, tuple[str, str]] = {
    "predictions": ("predictions", "taken"),
    "repeated": ("predictions", "repeated"),
    "asked_again": ("predictions", "asked_again"),
    "late_predictions": ("predictions", "late"),
    "unnamed": ("predictions", "unnamed"),
    "unlabelled": ("predictions", "unlabelled"),
    "late_labels": ("labels", "late"),
    "revised_predictions": ("predictions", "revised"),
    "revised_labels": ("labels", "revised"),
}
_DIFFERENCE_BOUNDS = ("mean", "low", "high", "running", "running_low", "running_high")


class DriftMetrics:
    """Updates the metrics of one model after each step of its engine."""

    def __init__(self, engine: Engine, declaration: ModelDeclaration) -> None:
        """Count from the current totals: an earlier process counted those of the snapshot."""
        self._engine = engine
        metrics.DRIFT_SAMPLE.labels(declaration.name).set(declaration.monitoring.sample)
        self._accuracy = declaration.slo.accuracy
        self._loss_tolerance = declaration.monitoring.loss_tolerance
        # Both series exist from the start, so that the first bad window is an increase.
        if self._accuracy is not None:
            for result in ("good", "bad"):
                metrics.JUDGED.labels(engine.model, self._accuracy.measure, result)
        self._counted = msgspec.structs.replace(engine.totals)
        self._mature_ms = BEFORE_ALL_MS
        """Start of the latest window whose labels are mature."""
        self._series: dict[Gauge, set[tuple[str, ...]]] = {}
        self._show_active()

    def observe(self, outputs: DriftOutputs) -> None:
        """Update the metrics with the outputs of one step."""
        model = self._engine.model
        self._count_totals(model, self._engine.totals)
        self._show_active()
        metrics.DRIFT_PENDING.labels(model).set(len(self._engine.pending_predictions))
        metrics.DRIFT_REQUESTS.labels(model).inc(len(outputs.requests))
        if outputs.label_coverage is not None:
            metrics.LABEL_COVERAGE.labels(model).set(outputs.label_coverage)
        for letter in outputs.dead_letters:
            metrics.DEAD_LETTERS.labels("drift", letter.topic, letter.kind).inc()
        for record in outputs.drift:
            if isinstance(record, records.DriftReport):
                _show_report(record)
                self._show_values(record)
                self._show_arms(record)
                self._count_objective(record)
            elif isinstance(record, records.PerformanceReport):
                self._show_performance(record)
            else:
                metrics.DRIFT_ALARMS.labels(model, record.kind).inc()

    def close(self) -> None:
        """Remove the series of active alarms: another worker may have the model next, and end them."""
        for kind in self._engine.active_alarms.counts():
            with contextlib.suppress(KeyError):  # closed twice
                metrics.DRIFT_ALARMS_ACTIVE.remove(self._engine.model, kind)

    def _show_active(self) -> None:
        for kind, count in self._engine.active_alarms.counts().items():
            metrics.DRIFT_ALARMS_ACTIVE.labels(self._engine.model, kind).set(count)

    def _show_arms(self, report: records.DriftReport) -> None:
        """Show the figures of each arm of a window; arms that are not in it any more are removed.

        A revision is about an earlier window and changes nothing.
        """
        if report.revision:
            return
        means: dict[tuple[str, ...], float] = {}
        counts: dict[tuple[str, ...], float] = {}
        differences: dict[tuple[str, ...], float] = {}
        for arm in report.arms:
            labels = report.model, arm.arm, str(arm.version)
            found = {"prediction": arm.predictions, "label": arm.labels, "failed": arm.failed}
            counts |= {(*labels, record): count for record, count in found.items()}
            means |= {(*labels, each.measure): each.total / each.labels for each in arm.measures}
            bounds = ((bound, getattr(arm.difference, bound, None)) for bound in _DIFFERENCE_BOUNDS)
            differences |= {(*labels, bound): value for bound, value in bounds if value is not None}
        self._replace(metrics.ARM_MEASURE, means)
        self._replace(metrics.ARM_RECORDS, counts)
        self._replace(metrics.ARM_DIFFERENCE, differences)
        self._show_comparisons(report)

    def _show_comparisons(self, report: records.DriftReport) -> None:
        """Show by how much errors and times of calls of the arms differ from the champion's."""
        failures: dict[tuple[str, ...], float] = {}
        ratios: dict[tuple[str, ...], float] = {}
        for arm in arm_comparison.side_by_side(report):
            labels = report.model, arm.arm, str(arm.version)
            failures |= {(*labels, name): value for name, value in _bounds(arm.failures, "mean")}
            ratios |= {(*labels, name): value for name, value in _bounds(arm.call_ratio, "ratio")}
        self._replace(metrics.ARM_FAILURE_DIFFERENCE, failures)
        self._replace(metrics.ARM_CALL_RATIO, ratios)

    def _show_performance(self, report: records.PerformanceReport) -> None:
        """Show the estimates of the last window, and the figures of the latest one with mature labels."""
        if report.state == "provisional":
            _show_estimates(report)
        elif report.window_start_ms >= self._mature_ms:  # an earlier window may be completed later
            self._mature_ms = report.window_start_ms
            _show_realised(report)
            _show_costs(report)
            if report.segments:
                self._show_outcomes(report)

    def _show_outcomes(self, report: records.PerformanceReport) -> None:
        """Show the figures by threshold or class."""
        model, whole = report.model, report.segments[0]
        found = outcome_tables.of_report(report, whole)
        self._replace(
            metrics.PERFORMANCE_BY_THRESHOLD,
            {
                (model, name, f"{threshold:g}"): math.nan if value is None else value
                for threshold, each in found.thresholds
                for name, value in each.figures.items()
            },
        )
        self._replace(
            metrics.PERFORMANCE_BY_CLASS,
            {
                (model, name, label): math.nan if value is None else value
                for label, each in found.classes
                for name, value in each.figures.items()
            },
        )
        shown = found.matrix if len(found.names) <= MATRIX_CLASSES_MAX else []
        self._replace(
            metrics.CONFUSION,
            {
                (model, label, predicted): count
                for label, row in zip(found.names, shown, strict=False)
                for predicted, count in zip(found.names, row, strict=True)
            },
        )

    def _replace(self, gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
        """Set all series of this model in a gauge; those it had before, and has not any more, are removed."""
        for series in self._series.get(gauge, set()) - values.keys():
            gauge.remove(*series)
        for series, value in values.items():
            gauge.labels(*series).set(value)
        self._series[gauge] = set(values)

    def _show_values(self, report: records.DriftReport) -> None:
        """Show the statistics of a window's numbers and its confidence; a revision changes nothing."""
        if report.revision or not report.predictions:
            return
        shown = [*report.features[:VALUES_FEATURES_MAX], *([report.score] if report.score else [])]
        values: dict[tuple[str, ...], float] = {}
        for each in shown:
            for of, statistics in (("window", each.values), ("reference", each.reference_values)):
                for name, value in _named(statistics):
                    values[report.model, each.feature, name, of] = value
        self._replace(metrics.FEATURE_VALUES, values)
        if (found := report.confidence) is not None:
            for of, mean, low in (
                ("window", found.mean, found.low_share),
                ("reference", found.reference_mean, found.reference_low_share),
            ):
                _set(metrics.CONFIDENCE.labels(report.model, "mean", of), mean)
                _set(metrics.CONFIDENCE.labels(report.model, "low_share", of), low)

    def _count_objective(self, report: records.DriftReport) -> None:
        """Count a window, or its predictions, towards the declared objective; a revision does not count."""
        if self._accuracy is None or report.revision:
            return
        found = error_budget.count_window(self._accuracy, self._loss_tolerance, report)
        for result, count in (("good", found.good), ("bad", found.bad)):
            metrics.JUDGED.labels(report.model, self._accuracy.measure, result).inc(count)

    def _count_totals(self, model: str, totals: JoinTotals) -> None:
        for field, result in _LABEL_RESULTS.items():
            metrics.LABELS.labels(model, result).inc(self._new(totals, field))
        for field, (record_kind, result) in _RECORD_RESULTS.items():
            metrics.DRIFT_RECORDS.labels(model, record_kind, result).inc(self._new(totals, field))
        self._counted = msgspec.structs.replace(totals)

    def _new(self, totals: JoinTotals, field: str) -> int:
        return int(getattr(totals, field) - getattr(self._counted, field))


def without_reference() -> list[str]:
    """Return the models whose champion has no reference."""
    samples = [sample for each in metrics.DRIFT_REFERENCE.collect() for sample in each.samples]
    return sorted(sample.labels["model"] for sample in samples if not sample.value)


def _show_report(report: records.DriftReport) -> None:
    if report.has_reference is not None:
        metrics.DRIFT_REFERENCE.labels(report.model).set(report.has_reference)
    for feature in report.features if report.predictions else ():
        evidence = -math.log10(max(feature.p_value, P_VALUE_MIN))
        metrics.DRIFT_EFFECT.labels(report.model, feature.feature).set(feature.psi)
        metrics.DRIFT_EVIDENCE.labels(report.model, feature.feature).set(evidence)
    for each in report.quality if report.predictions else ():
        faults = {
            "null": each.nulls,
            "type": each.wrong_type,
            "below": each.below,
            "above": each.above,
            "name": each.not_allowed,
        }
        for fault, count in faults.items():
            share = count / max(each.values, 1)
            metrics.DRIFT_FAULTS.labels(report.model, each.feature, fault).set(share)
    if report.log_loss is not None:
        metrics.LOG_LOSS.labels(report.model, "live").set(report.log_loss)
    for arm, loss in report.shadow_log_loss.items():
        metrics.LOG_LOSS.labels(report.model, arm).set(loss)


def _show_costs(report: records.PerformanceReport) -> None:
    account = report.cost
    if account is None:
        return
    labels = report.model, report.unit
    mean = account.total / report.labels if report.labels else None
    for of, value in (("window", mean), ("reference", account.reference), ("before", account.before)):
        _set(metrics.COST_MEAN.labels(*labels, of), value)
    metrics.COST.labels(*labels, "window").set(account.total)
    metrics.COST.labels(*labels, "all").set(account.cumulative)
    saved = None if account.reference is None else account.reference * report.labels - account.total
    _set(metrics.COST_SAVED.labels(*labels, "window"), saved)
    _set(metrics.COST_SAVED.labels(*labels, "all"), account.saved)


def _show_estimates(report: records.PerformanceReport) -> None:
    model = report.model
    if report.maturity is not None:
        metrics.COHORT_MATURITY.labels(model).set(report.maturity)
    for each in report.segments:
        for figure in each.figures:
            labels = model, figure.measure, each.segment
            _set(metrics.ESTIMATED_PERFORMANCE.labels(*labels), figure.estimated)


def _show_realised(report: records.PerformanceReport) -> None:
    model = report.model
    if report.estimate_error is not None:
        metrics.ESTIMATED_ERROR.labels(model, report.judged).set(report.estimate_error)
    for each in report.segments:
        for figure in each.figures:
            labels = model, figure.measure, each.segment
            _set(metrics.PERFORMANCE.labels(*labels), figure.realised)
            running = metrics.PERFORMANCE_RUNNING
            _set(running.labels(*labels, "mean"), figure.running)
            _set(running.labels(*labels, "low"), figure.running_low)
            _set(running.labels(*labels, "high"), figure.running_high)
            if not each.segment:
                _set(metrics.ESTIMATED_GAP.labels(model, figure.measure), figure.gap)


def _bounds(found: FailureDifference | CallTimeRatio | None, middle: str) -> list[tuple[str, float]]:
    """Return a comparison and its interval by name, without those that are unknown."""
    named = ((name, getattr(found, name, None)) for name in (middle, "low", "high"))
    return [(name, value) for name, value in named if value is not None]


def _named(statistics: records.ValueStatistics | None) -> list[tuple[str, float]]:
    """Return statistics by name, without those that are unknown."""
    if statistics is None:
        return []
    named = [("mean", statistics.mean), *zip(QUANTILES, statistics.quantiles, strict=False)]
    return named if statistics.deviation is None else [*named, ("deviation", statistics.deviation)]


def _set(gauge: Gauge, value: float | None) -> None:
    gauge.set(math.nan if value is None else value)
