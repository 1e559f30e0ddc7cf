"""Alarms on the champion's rows: its features, how they go together, and its scores."""

from collections.abc import Mapping, Sequence

import msgspec

from services.drift import alarm_texts
from services.drift.alarms import E_DETECTOR, AlarmContent, AlarmKind, Detected, alarm_of_change
from services.drift.binning.binning import BinnedRows, PredictionRows
from services.drift.detectors.protocol import DetectedChange
from services.drift.detectors.watcher import WatcherState
from services.drift.detectors.watchers import ChangeSubject, ObservedChange, Watchers
from services.drift.references import References
from services.drift.windows.window import DriftWindow
from services.monitoring.segments import SegmentMatcher
from services.runtime.declaration import MONTH_MS, ModelDeclaration
from streams import records


class RowAlarms:
    """Counts the rows of one champion in their window and watches them against its reference."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        references: References,
        version: int,
        watchers: Mapping[str, WatcherState] | None = None,
        pairs: bytes | None = None,
    ) -> None:
        """Start without evidence of a change, or from the states of the detectors."""
        self._model = declaration.name
        self._monitoring = declaration.monitoring
        self._references = references
        reference = references.get(version)
        self._segments = SegmentMatcher(reference, declaration.monitoring, references.feature_sets)
        self._watchers = Watchers(reference, declaration.monitoring, watchers or {}, pairs)

    def segments_of(self, prediction: records.Prediction) -> list[str]:
        """Return the segments to which a row belongs."""
        return self._segments.match(prediction.features, prediction.feature_set)

    def add(
        self, rows: PredictionRows, indices: Sequence[int], window: DriftWindow, version: int
    ) -> list[Detected]:
        """Count rows in their window and watch them; return alarms and ends, each with its row's index."""
        binned = window.row_binner.assign(rows) if window.row_binner else None
        detected, counted = [], 0
        for row, observed in self._watch(rows, window, binned, version):
            window.count(rows, binned, counted, row + 1)  # an alarm describes the window up to its row
            counted = row + 1
            detected.append(Detected(indices[row], self._result(observed, window, version)))
        window.count(rows, binned, counted, len(rows))
        return detected

    def watch_rest(self, window: DriftWindow, version: int) -> list[records.DriftAlarm | ChangeSubject]:
        """Watch the rows that are still buffered when a window ends."""
        return [self._result(observed, window, version) for observed in self._watchers.flush()]

    def standing(self) -> set[ChangeSubject]:
        """Return what has a change that lasts."""
        return self._watchers.standing()

    def watcher_states(self) -> dict[str, WatcherState]:
        """Return what `__init__` takes as ``watchers``."""
        return self._watchers.state()

    def pairs_state(self) -> bytes | None:
        """Return what `__init__` takes as ``pairs``."""
        return self._watchers.pairs_state()

    def _watch(
        self, rows: PredictionRows, window: DriftWindow, in_window: BinnedRows | None, version: int
    ) -> list[tuple[int, ObservedChange]]:
        binner = self._references.row_binner(version)
        if binner is None:
            return []
        binned = in_window if in_window is not None and binner is window.row_binner else binner.assign(rows)
        return sorted(self._watchers.add(rows, binned), key=lambda each: each[0])

    def _result(
        self, observed: ObservedChange, window: DriftWindow, version: int
    ) -> records.DriftAlarm | ChangeSubject:
        if observed.change is None:
            return observed.of
        return self._alarm_of(observed, observed.change, window, version)

    def _alarm_of(
        self, observed: ObservedChange, change: DetectedChange, window: DriftWindow, version: int
    ) -> records.DriftAlarm:
        """Make the alarm of a change; one of a feature with many new categories is of the kind category."""
        subject, segment = observed.of.subject, observed.of.segment
        kind: AlarmKind = observed.of.kind
        if kind == "score":
            contributions = window.outputs.contributions(subject)
        else:
            contributions = window.contributions(subject, segment)
        text = observed.text or alarm_texts.feature_text(subject, segment, change.effect, contributions)
        counted = next((each for each in window.features if each.name == subject), None)
        share = 0.0
        if counted and kind == "feature":
            share = counted.unseen_total / max(int(counted.counts.sum()), 1)
        if counted and share >= self._monitoring.new_category_share:
            kind = "category"
            text = alarm_texts.category_text(subject, segment, share, list(counted.unseen))
        content = AlarmContent(kind, subject, change.value / MONTH_MS, change.threshold / MONTH_MS, text)
        alarm = alarm_of_change(self._model, version, content, change, E_DETECTOR, segment)
        return msgspec.structs.replace(alarm, contributions=contributions)
