"""Alarms on the champion's losses: realised, rising, or estimated before the labels come."""

import dataclasses
from collections.abc import Mapping, Sequence

from services.drift import alarm_texts
from services.drift.alarms import AlarmContent, Detected, alarm_of, alarm_of_change
from services.drift.detectors.protocol import DetectedChange
from services.drift.detectors.watchers import HARM, LossWatchers
from services.drift.performance.loss_baseline import LossBaseline
from services.drift.performance.loss_monitor import LossMonitor, LossMonitorState
from services.drift.performance.performance_estimation import EstimateTracker
from services.monitoring.model_metrics import LOG_LOSS_MAX, Measures
from services.runtime.declaration import ModelDeclaration
from streams import records

ESTIMATE_DETECTOR = "estimate"
"""The detector of a loss that is estimated before the labels come."""


@dataclasses.dataclass(frozen=True)
class LossAlarmsState:
    """All that `LossAlarms` knows."""

    monitor: LossMonitorState
    watchers: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    rise: records.DriftAlarm | None = None


@dataclasses.dataclass(frozen=True)
class LossEvaluation:
    """The losses at the end of a window, beside the limit of the baseline."""

    rise: records.DriftAlarm | None = None
    """ADWIN saw the mean rise in this window, to above the limit or without one."""
    realised: records.DriftAlarm | None = None
    """The mean loss of the labels is above the limit."""
    estimated: records.DriftAlarm | None = None
    """The mean loss estimated before the labels is above the limit."""
    worse: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    """Whether each subject that could be compared is worse than the limit."""
    cause: records.DriftAlarm | None = None
    """The alarm for which a retraining should be requested."""
    labels: int = 0
    """Number of labels of this champion's predictions."""
    labels_since: int = 0
    """Number of labels since the cause began."""

    @property
    def alarms(self) -> list[records.DriftAlarm]:
        """The alarms of this window; that of a rise was raised with the record at which it was detected."""
        return [alarm for alarm in (self.realised, self.estimated) if alarm is not None]


class LossAlarms:
    """Watches the losses of one champion in the order in which its labels became known."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        measures: Measures,
        baseline: LossBaseline,
        estimates: EstimateTracker,
        *,
        design_effect: float,
        streams: int,
        window_start_ms: int = 0,
        state: LossAlarmsState | None = None,
    ) -> None:
        """Start at a promotion, or from a state.

        Args:
            declaration: The model's.
            measures: Its measures, the loss first.
            baseline: Of this champion; shared with its `PerformanceTracker`, updated here.
            estimates: The estimates made before the labels, updated by the tracker.
            design_effect: How many correlated losses count as one, at least 1.
            streams: Number of streams that share the alarm budget.
            window_start_ms: Start of the open window.
            state: Of the same champion.
        """
        self._model = declaration.name
        self._monitoring = declaration.monitoring
        self._requests_on_estimate = declaration.retraining.on_estimate
        self._measures = measures
        self._baseline = baseline
        self._estimates = estimates
        self._design_effect = design_effect
        self._streams = streams
        self._rise = state.rise if state else None
        self._monitor = self._new_monitor(window_start_ms, state.monitor if state else None)
        self._watchers = self._new_watchers(state.watchers if state else {})

    def state(self) -> LossAlarmsState:
        """Return what `__init__` takes."""
        return LossAlarmsState(self._monitor.state(), self._watchers.state(), self._rise)

    def add(self, version: int, values: Sequence[float], time_ms: int, index: int) -> list[Detected]:
        """Watch one loss of the champion; nothing is detected before its errors have a scale.

        Args:
            version: The champion's.
            values: Of each measure.
            time_ms: Event time of the label.
            index: Of the label among the records in process.
        """
        if self._baseline.add(values):
            self._monitor = self._new_monitor(self._monitor.window_start_ms)
            self._watchers = self._new_watchers(self._watchers.state())
        if self._baseline.range is None:
            return []
        loss, detected = values[self._baseline.index], []
        is_wrong = self._is_wrong(values)
        if self._monitor.add(loss):
            self._rise, is_worse = self._alarm_of_rise(version, time_ms)
            if is_worse:
                detected.append(Detected(index, self._rise))
        for detector, change in self._watchers.add(loss, time_ms, wrong=is_wrong):
            detected.append(Detected(index, self._alarm_of_change(version, detector, change)))
        return detected

    def close_window(self, end_ms: int) -> None:
        """Begin the losses of the next window; the baseline may become known here."""
        self._monitor.close_window(end_ms)
        if self._baseline.close_window():
            self._watchers = self._new_watchers(self._watchers.state())

    def evaluate(self, version: int, end_ms: int) -> LossEvaluation:
        """Compare the latest realised and estimated losses with the limit, at the end of a window.

        A retraining is requested for the losses of labels as they become known: in a steady stream early and
        late labels are mixed there as in complete cohorts, so there is no wait for maturity.
        """
        worse: dict[str, bool] = {}
        realised = self._realised(version, end_ms, worse)
        estimated = self._estimated(version, end_ms, worse)
        rise, self._rise = self._rise, None
        found = None if rise is None else self._baseline.compare(rise.value)
        if found is not None and not found.is_worse:  # a rise to a mean within the limit
            rise = None
        cause = rise or realised or (estimated if self._requests_on_estimate else None)
        labels_since = 0 if cause is None else self._monitor.labels_since(cause.since_ms)
        return LossEvaluation(rise, realised, estimated, worse, cause, self._monitor.labels, labels_since)

    def _realised(self, version: int, end_ms: int, worse: dict[str, bool]) -> records.DriftAlarm | None:
        windows = self._monitoring.loss_windows
        recent = self._monitor.recent_loss(windows)
        found = None if recent is None else self._baseline.compare(recent)
        if found is None:
            return None
        worse[found.measure] = found.is_worse
        text = alarm_texts.realised_text(found, windows)
        content = AlarmContent("loss", found.measure, found.current, found.limit, text)
        since_ms = self._monitor.recent_start_ms(windows)
        return alarm_of(self._model, version, content, end_ms, since_ms) if found.is_worse else None

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
        text = alarm_texts.estimated_text(found, self._monitoring.loss_windows, error)
        content = AlarmContent("loss", subject, found.current, found.limit + error, text)
        since_ms = self._estimates.recent_start_ms
        return alarm_of(self._model, version, content, end_ms, since_ms, ESTIMATE_DETECTOR)

    def _alarm_of_rise(self, version: int, detected_at_ms: int) -> tuple[records.DriftAlarm, bool]:
        """Return the alarm of a rise that ADWIN saw, and whether it is raised: not while below the limit."""
        mean, measure = self._monitor.mean_since_change, self._baseline.measure
        found = self._baseline.compare(mean)
        text = alarm_texts.rise_text(measure, mean, found)
        content = AlarmContent("loss", measure, mean, mean if found is None else found.limit, text)
        since_ms = self._monitor.change_start_ms()
        alarm = alarm_of(self._model, version, content, detected_at_ms, since_ms, "adwin")
        return alarm, found is None or found.is_worse

    def _alarm_of_change(self, version: int, detector: str, change: DetectedChange) -> records.DriftAlarm:
        found = self._baseline.compare(self._monitor.mean_since_change)
        if detector == HARM and found is not None:
            text = alarm_texts.sequential_test_text(found)
        else:
            text = alarm_texts.loss_change_text(detector)
        content = AlarmContent("loss", self._baseline.measure, change.value, change.threshold, text)
        return alarm_of_change(self._model, version, content, change, detector)

    def _is_wrong(self, values: Sequence[float]) -> bool:
        """Tell whether a prediction was wrong; of a regression, whether its error is above the baseline."""
        if "accuracy" in self._measures.names:
            return not values[self._measures.names.index("accuracy")]
        baseline = self._baseline.value
        return baseline is not None and values[0] > baseline

    def _new_monitor(self, window_start_ms: int, state: LossMonitorState | None = None) -> LossMonitor:
        """Return a monitor that scales losses to the range of log losses, for which ADWIN is set."""
        found = self._baseline.range
        unit = 1.0 if found is None else (found.high - found.low) / LOG_LOSS_MAX
        return LossMonitor(self._monitoring.adwin_delta, window_start_ms, state, unit=unit)

    def _new_watchers(self, states: Mapping[str, bytes]) -> LossWatchers:
        return LossWatchers(self._baseline, self._design_effect, self._monitoring, self._streams, states)
