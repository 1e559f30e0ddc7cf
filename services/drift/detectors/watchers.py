"""Runs the detectors on every prediction: which detector watches what, and what it found."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from services.drift.alarm_texts import relation_text, share_text
from services.drift.binning.bin_search import BinIndices
from services.drift.binning.binning import BinnedRows, PredictionRows
from services.drift.detectors.correlation_differences import relation
from services.drift.detectors.protocol import DetectedChange, TimesMs
from services.drift.detectors.ranks import Ranks
from services.drift.detectors.relation_detector import PairChange, PairDetector, PairRecovery
from services.drift.detectors.standing_changes import Recovery
from services.drift.detectors.watcher import WatchedChange, Watcher, WatcherState
from services.monitoring.rank_correlation import Moments
from services.monitoring.reference import PREDICTION, SCORE, outputs_of
from services.monitoring.segments import segments_of
from services.monitoring.value_kinds import ValueKinds, kinds_in_segment, kinds_of
from services.runtime.declaration import Monitoring
from streams.records import FeatureReference, Reference


class ChangeSubject(NamedTuple):
    """What changed."""

    kind: Literal["feature", "score", "relation"]
    subject: str
    """A feature, two features, ``score``, or ``prediction`` for the predicted classes."""
    segment: str
    """``origin=EWR``; empty for all rows."""


@dataclasses.dataclass(frozen=True)
class ObservedChange:
    """A detected change with its subject, or the end of one that stood."""

    of: ChangeSubject
    change: DetectedChange | None
    """None: the values are back."""
    text: str = ""
    """The message of the alarm; empty for the message about mean ranks."""


class Watchers:
    """Watches features and the champion's outputs against the reference, segments against their own past."""

    def __init__(
        self,
        reference: Reference | None,
        monitoring: Monitoring,
        states: Mapping[str, WatcherState] | None = None,
        pairs: bytes | None = None,
    ) -> None:
        """Start without evidence of a change, or from states; without a reference nothing is watched."""
        features = reference.features if reference else []
        self._features = [each.feature for each in features]
        self._segments = segments_of(features, monitoring.segments)
        watched = {
            name: _without_counts(features) if name else features
            for name in ("", *self._segments)
            if features
        }
        self._outputs = outputs_of(reference) if reference else {}
        watched |= {name: [each] for name, each in self._outputs.items()}
        known = None if reference is None else reference.pairs
        self.streams = 2 * sum(map(len, watched.values())) + (known is not None) + 1
        """Number of streams that share the alarm budget: the ranks of each feature and the shares of its
        values, overall and by segment; both of the outputs; all feature pairs; the loss."""
        # Half of the budget is that of the loss, see `loss_alarms.BUDGET_SHARE`.
        threshold_ms = 2 * max(self.streams - 1, 1) * monitoring.patience_ms
        stored = states or {}
        self._watchers = {
            name: Watcher(
                each,
                threshold_ms,
                stored.get(name),
                monitoring.patience_ms,
                kinds=self._kinds(name, each, features),
            )
            for name, each in watched.items()
        }
        self._pairs: PairDetector | None = None
        if known is not None:
            effects = np.array([each.design_effect for each in features[: len(known.sums)]])
            moments = Moments.of_reference(known)
            self._pairs = PairDetector(
                moments, threshold_ms, effects, monitoring.patience_ms, known.design_effects
            )
            if pairs is not None:
                self._pairs.restore(pairs)

    def _kinds(
        self, name: str, watched: Sequence[FeatureReference], features: Sequence[FeatureReference]
    ) -> list[ValueKinds]:
        """Return the kinds of the values that a watcher of this name watches."""
        segment = self._segments.get(name)
        if segment is None:
            return [kinds_of(each) for each in watched]
        rows = features[segment.feature].counts[segment.bin]
        return [kinds_in_segment(each, name, rows) for each in features]

    def add(self, rows: PredictionRows, binned: BinnedRows) -> list[tuple[int, ObservedChange]]:
        """Process rows; return changes and their ends, each with the index of the row that showed it.

        Args:
            rows: Rows in the common order of all inputs.
            binned: The same rows in the bins of the reference.
        """
        tie_breakers = rows.tie_breakers()
        changes: list[tuple[int, ObservedChange]] = []
        if self._features:
            for name in ("", *self._segments):
                selected = slice(None) if not name else self._in_segment(name, binned.bins)
                indices, bins = binned.rows[selected], binned.bins[selected]
                changes += self._add(name, indices, rows.times_ms, tie_breakers, bins)
        indices = np.flatnonzero(binned.answered)
        for name in self._outputs:
            bins = binned.outputs[name][indices][:, None]
            changes += self._add(name, indices, rows.times_ms, tie_breakers, bins)
        if self._pairs is not None:
            found = self._pairs.update(binned.pair_scores, rows.times_ms[binned.rows])
            changes += [(int(binned.rows[row]), self._relation(each)) for row, each in found]
        return changes

    def _add(
        self, name: str, indices: BinIndices, times_ms: TimesMs, tie_breakers: Ranks, bins: BinIndices
    ) -> list[tuple[int, ObservedChange]]:
        if not len(indices):
            return []
        return [
            (int(indices[row]), self._observed(name, change))
            for row, change in self._watchers[name].add(times_ms[indices], tie_breakers[indices], bins)
        ]

    def _in_segment(self, name: str, bins: BinIndices) -> BinIndices:
        segment = self._segments[name]
        return np.flatnonzero(bins[:, segment.feature] == segment.bin)

    def flush(self) -> list[ObservedChange]:
        """Process the buffered rows, at the end of a window."""
        return [
            self._observed(name, change)
            for name, watcher in self._watchers.items()
            for change in watcher.flush()
        ]

    def state(self) -> dict[str, WatcherState]:
        """Return the states, which `__init__` takes."""
        return {name: watcher.state() for name, watcher in self._watchers.items()}

    def pairs_state(self) -> bytes | None:
        """Return the state of the pair detector, which `__init__` takes, too."""
        return self._pairs.state() if self._pairs else None

    def standing(self) -> set[ChangeSubject]:
        """Return what has a change that lasts."""
        found = {
            _subject(name, feature)
            for name, watcher in self._watchers.items()
            for feature in watcher.standing
        }
        pairs = self._pairs.standing if self._pairs else ()
        return found | {self._pair(*pair) for pair in pairs}

    def _pair(self, first: int, second: int) -> ChangeSubject:
        return ChangeSubject("relation", relation(self._features[first], self._features[second]), "")

    def _relation(self, found: PairChange | PairRecovery) -> ObservedChange:
        subject = self._pair(found.first, found.second)
        if isinstance(found, PairRecovery):
            return ObservedChange(subject, None)
        text = relation_text(subject.subject, found.correlation, found.correlation_before)
        return ObservedChange(subject, found.change, text)

    def _observed(self, name: str, found: WatchedChange | Recovery) -> ObservedChange:
        watcher = self._watchers[name]
        if isinstance(found, Recovery):
            return ObservedChange(_subject(name, watcher.features[found.stream]), None)
        change, share = found
        subject = _subject(name, watcher.features[change.stream])
        text = ""
        if share is not None:
            text = share_text(subject.subject, subject.segment, share.kind, share.share, share.share_before)
        return ObservedChange(subject, change, text)


def _subject(name: str, feature: str) -> ChangeSubject:
    """Return the subject of a change that the watcher of this name found."""
    if name in (SCORE, PREDICTION):
        return ChangeSubject("score", name, "")
    return ChangeSubject("feature", feature, name)


def _without_counts(references: Sequence[FeatureReference]) -> list[FeatureReference]:
    """Return the same bins without counts: a segment is compared with its own past only."""
    return [
        msgspec.structs.replace(each, counts=[0] * len(each.counts), missing=0, seasons={})
        for each in references
    ]
