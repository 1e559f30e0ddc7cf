"""Alarms on the champion's losses: measured, or estimated before the labels come."""

import dataclasses
from collections.abc import Mapping, Sequence

import msgspec

from services.drift import alarm_texts
from services.drift.alarms import AlarmContent, Detected, alarm_of, alarm_of_change
from services.drift.detectors.loss_watchers import LossWatchers
from services.drift.detectors.protocol import DetectedChange
from services.drift.performance.harm_evidence import CohortLosses, Harm, HarmEvidence
from services.drift.performance.label_counts import LabelCounts, LabelCountsState
from services.drift.performance.loss_baseline import LossBaseline
from services.drift.performance.performance_estimation import OUTSIDE_MAX, EstimateTracker
from services.monitoring.model_metrics import Measures
from services.runtime.declaration import ModelDeclaration
from streams import records

HARM = "harm"
"""The detector of a mean loss above its limit."""
ESTIMATE_DETECTOR = "estimate"
"""The detector of a loss that is estimated before the labels come."""
BUDGET_SHARE = 0.5
"""Share of the alarm budget that the loss has: a false alarm about it costs a retraining."""
STANDING = 0.05
"""Share of its threshold; an alarm stays active while the evidence is above it."""


@dataclasses.dataclass(frozen=True)
class LossAlarmsState:
    """All that `LossAlarms` knows."""

    labels: LabelCountsState
    watchers: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    mature: Sequence[CohortLosses] = ()
    early: Sequence[CohortLosses] = ()


@dataclasses.dataclass(frozen=True)
class LossEvaluation:
    """The losses at the end of a window, beside the limit of the baseline."""

    realised: records.DriftAlarm | None = None
    """The evidence of labels that the mean loss is above its limit is strong enough."""
    estimated: records.DriftAlarm | None = None
    """The mean loss estimated before the labels is above the limit."""
    worse: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    """Whether each subject that could be compared is worse than the limit, or not clearly better again."""
    cause: records.DriftAlarm | None = None
    """The alarm for which a retraining should be requested."""
    labels: int = 0
    """Number of labels of this champion's predictions."""
    labels_since: int = 0
    """Number of labels since the cause began."""

    @property
    def alarms(self) -> list[records.DriftAlarm]:
        """The alarms of this window."""
        return [alarm for alarm in (self.realised, self.estimated) if alarm is not None]


class LossAlarms:
    """Watches the losses of one champion, by cohort of its predictions."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        measures: Measures,
        baseline: LossBaseline,
        estimates: EstimateTracker,
        *,
        design_effect: float,
        window_start_ms: int = 0,
        state: LossAlarmsState | None = None,
    ) -> None:
        """Start at a promotion, or from a state.

        Args:
            declaration: The model's.
            measures: Its measures, the loss first.
            baseline: The champion's baseline; shared with its `PerformanceTracker`, updated here.
            estimates: The estimates made before the labels, updated by the tracker.
            design_effect: How many correlated losses count as one, at least 1.
            window_start_ms: Start of the open window.
            state: A state of the same champion.
        """
        self._model = declaration.name
        self._monitoring = declaration.monitoring
        self._requests_on_estimate = declaration.retraining.on_estimate
        self._measures = measures
        self._baseline = baseline
        self._estimates = estimates
        state = state or LossAlarmsState(LabelCounts(window_start_ms).state())
        self._counts = LabelCounts(window_start_ms, state.labels)
        self._watchers = self._new_watchers(state.watchers)
        threshold_ms = 2 * self._monitoring.patience_ms / BUDGET_SHARE  # of each of the two
        self._mature = HarmEvidence(threshold_ms, design_effect, state.mature)
        self._early = HarmEvidence(threshold_ms, design_effect, state.early)

    def state(self) -> LossAlarmsState:
        """Return what `__init__` takes."""
        return LossAlarmsState(
            self._counts.state(), self._watchers.state(), self._mature.cohorts, self._early.cohorts
        )

    def add(self, version: int, values: Sequence[float], time_ms: int, index: int) -> list[Detected]:
        """Count one label of the champion; show its loss to the detectors that are declared.

        Args:
            version: The champion's.
            values: The value of each measure.
            time_ms: Event time of the label.
            index: Index of the label among the records in process.
        """
        self._counts.add()
        if self._baseline.add(values):
            self._watchers = self._new_watchers(self._watchers.state())
        if self._baseline.range is None:
            return []
        loss, is_wrong = values[self._baseline.index], self._is_wrong(values)
        return [
            Detected(index, self._alarm_of_change(version, detector, change))
            for detector, change in self._watchers.add(loss, time_ms, wrong=is_wrong)
        ]

    def close_window(self, end_ms: int) -> None:
        """Begin the labels of the next window; the baseline may become known here."""
        self._counts.close_window(end_ms)
        self._baseline.close_window()

    def evaluate(
        self,
        version: int,
        end_ms: int,
        mature: Sequence[CohortLosses],
        early: Sequence[CohortLosses],
        revised: Sequence[CohortLosses] = (),
    ) -> LossEvaluation:
        """Compare the losses with the limit, at the end of a window.

        Args:
            version: The champion's.
            end_ms: End of the window.
            mature: Losses of the cohorts that have just become mature.
            early: Losses of the cohorts of which enough labels are known for the first time; see
                `early_losses`.
            revised: Losses of mature cohorts of which labels were corrected since they became mature.
        """
        for cohort in revised:
            self._mature.revise(cohort)
        for evidence, cohorts in ((self._mature, mature), (self._early, early)):
            for cohort in cohorts:
                evidence.add(cohort)
        worse: dict[str, bool] = {}
        realised = self._realised(version, end_ms, worse)
        estimated = self._estimated(version, end_ms, worse)
        is_trusted = self._requests_on_estimate and self._estimates.outside <= OUTSIDE_MAX
        cause = realised or (estimated if is_trusted else None)
        labels_since = 0 if cause is None else self._counts.labels_since(cause.since_ms)
        return LossEvaluation(realised, estimated, worse, cause, self._counts.labels, labels_since)

    def _realised(self, version: int, end_ms: int, worse: dict[str, bool]) -> records.DriftAlarm | None:
        """Return an alarm if the evidence of mature or of early labels is above its threshold.

        Early labels are weighted by an assumption, so they have to exceed the limit by the tolerance again.
        """
        baseline = self._baseline
        if baseline.range is None or baseline.limit is None:
            return None
        found = None
        compared = baseline.compare(0.0)
        assert compared is not None
        limits = ((self._mature, baseline.limit), (self._early, baseline.limit + compared.tolerance))
        worse[baseline.measure] = False
        for evidence, limit in limits:
            share = baseline.range.share(limit)
            strength = evidence.strength(share)
            worse[baseline.measure] |= strength >= STANDING
            if found is None and strength >= 1:
                is_early = evidence is self._early
                found = self._alarm_of_harm(version, end_ms, evidence.harm(share), is_early=is_early)
        return found

    def _alarm_of_harm(self, version: int, end_ms: int, harm: Harm, *, is_early: bool) -> records.DriftAlarm:
        baseline = self._baseline
        assert baseline.range is not None
        unit = baseline.range.high - baseline.range.low
        mean, low = (baseline.range.low + unit * share for share in (harm.mean, harm.low))
        found = baseline.compare(mean)
        assert found is not None
        text = alarm_texts.harm_text(found, low, harm.since_ms, is_early=is_early)
        content = AlarmContent("loss", found.measure, mean, found.limit, text)
        alarm = alarm_of(self._model, version, content, end_ms, harm.since_ms, HARM)
        return msgspec.structs.replace(alarm, since_from_ms=harm.since_from_ms, since_to_ms=harm.since_to_ms)

    def _estimated(self, version: int, end_ms: int, worse: dict[str, bool]) -> records.DriftAlarm | None:
        """Return an alarm if recent estimates are above the limit by more than their own error.

        Estimates with an error above the tolerance are not trusted.
        """
        recent, error = self._estimates.recent, self._estimates.error
        found = None if recent is None else self._baseline.compare(recent)
        if found is None or error is None:
            return None
        subject = f"estimated_{found.measure}"
        worse[subject] = error <= found.tolerance and found.is_worse_by(error)
        if not worse[subject]:
            return None
        since_ms = self._estimates.recent_start_ms
        text = alarm_texts.estimated_text(found, since_ms, error, self._estimates.outside)
        content = AlarmContent("loss", subject, found.current, found.limit + error, text)
        return alarm_of(self._model, version, content, end_ms, since_ms, ESTIMATE_DETECTOR)

    def _alarm_of_change(self, version: int, detector: str, change: DetectedChange) -> records.DriftAlarm:
        text = alarm_texts.loss_change_text(detector)
        content = AlarmContent("loss", self._baseline.measure, change.value, change.threshold, text)
        return alarm_of_change(self._model, version, content, change, detector)

    def _is_wrong(self, values: Sequence[float]) -> bool:
        """Tell whether a prediction was wrong; of a regression, whether its error is above the baseline."""
        if "accuracy" in self._measures.names:
            return not values[self._measures.names.index("accuracy")]
        baseline = self._baseline.value
        return baseline is not None and values[0] > baseline

    def _new_watchers(self, states: Mapping[str, bytes]) -> LossWatchers:
        return LossWatchers(self._baseline, self._monitoring, states)
