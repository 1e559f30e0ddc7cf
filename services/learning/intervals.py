"""Learning by intervals of event time: labelled requests in, published models out.

The labels of an interval are learned when it closes, by label time and prediction id. So what is learned
depends on the content of the inputs alone: not on how partitions interleave, when the learner advances, or
where it was restarted.

A label that is corrected within its interval is learned with its last value alone. A model cannot unlearn, so
a request whose label is corrected later is learned once more, with the new value.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from services.learning.arms_update import KEPT_MAX, Announcement
from services.learning.learner_state import LearnerState, Lesson
from services.learning.reference_period import ReferencePeriod
from services.learning.version_gate import GateVerdict, VersionGate
from services.model_registry import learned_versions, river_format
from services.model_registry.model_inputs import InputKind, Inputs
from services.model_registry.traffic_split import CHAMPION
from services.monitoring.label_join import Joined, LabelJoin
from services.monitoring.model_metrics import Measures
from services.runtime.declaration import ModelDeclaration
from streams import records
from streams.inputs import AFTER_ALL_MS


@dataclasses.dataclass
class LearningOutputs:
    """The results of one step. Write ``published`` before ``learned`` is announced, which refers to it."""

    published: list[records.LearnedModel] = dataclasses.field(default_factory=list)
    learned: list[Announcement] = dataclasses.field(default_factory=list)
    verdicts: list[GateVerdict] = dataclasses.field(default_factory=list)
    """One for each version in ``learned``."""
    dead_letters: list[records.DeadLetter] = dataclasses.field(default_factory=list)
    intervals_closed: int = 0
    loss: float | None = None
    """Mean loss of the served predictions, over the labels of the last closed interval that had any."""


class IntervalLearner:
    """Collects the labelled requests of the open interval, and learns them when it closes."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        feature_names: Sequence[str],
        make: Callable[[], Any],
        state: LearnerState,
        kinds: Inputs | None = None,
    ) -> None:
        """Continue from a state, which this object changes; see `services.learning.learner.Learner`."""
        assert declaration.learning is not None, "a model that learns declares it"
        self._model = declaration.name
        self._learning = declaration.learning
        self._names = list(feature_names)
        self._fill = declaration.features.missing.fill
        self._is_binary = declaration.task == "binary"
        self._measures = Measures(declaration)
        self._state = state
        self._reference = ReferencePeriod(
            declaration, kinds or dict.fromkeys(feature_names, InputKind.NUMBER), state
        )
        self._gate = VersionGate(declaration, state.gate)
        self._estimator = make() if state.estimator is None else river_format.decode(state.estimator)
        self._is_classifier = learned_versions.is_classifier(self._estimator)

    def add(self, joined: Joined) -> None:
        """Add a label with the request that it belongs to. The loss counts first labels only."""
        state, (entry, label, corrects) = self._state, joined
        if corrects is not None and not entry.features:
            return  # of a checkpoint of an older version, which forgot them with the first label
        correction = 0 if corrects is None else corrects.number
        state.lessons.append(
            Lesson(
                label.event_time_ms,
                label.prediction_id,
                label.value,
                entry.features,
                correction,
                entry.event_time_ms,
                entry.score if entry.arm == CHAMPION else None,
            )
        )
        self._reference.add(label, entry)
        if entry.score is not None and corrects is None:
            count, total = state.losses
            state.losses = count + 1, total + (self._measures.loss_of_score(entry.score, label.value) or 0.0)

    def open(self, time_ms: int) -> None:
        """Open the interval of an event time, unless one is open."""
        state, length_ms = self._state, self._learning.interval_ms
        if state.interval_end_ms is None:
            state.interval_end_ms = (time_ms // length_ms + 1) * length_ms
        if state.first_ms is None:
            state.first_ms = state.interval_end_ms - length_ms

    @property
    def evicted_before_ms(self) -> int:
        """The start of the open interval: each horizon that ended before has been noticed."""
        end_ms = self._state.interval_end_ms
        return AFTER_ALL_MS if end_ms is None else end_ms - self._learning.interval_ms

    def close_until(self, time_ms: int, join: LabelJoin, outputs: LearningOutputs) -> None:
        """Close the intervals that end by an event time.

        Empty intervals follow while predictions or labels wait for each other, because the join evicts those
        at the ends of intervals. Then none is open until the next record: which intervals exist must not
        depend on when the learner advances. Of several empty ones only the last is closed, which evicts what
        all of them would: a prediction that waits may be years ahead of a stream that is a replay. An
        interval in which a prediction is settled is not empty.
        """
        length_ms = self._learning.interval_ms
        while (end_ms := self._state.interval_end_ms) is not None and time_ms >= end_ms:
            for settled in join.settle(end_ms):
                self.add(settled)
            self._close(end_ms, outputs)
            join.evict(end_ms)
            until_ms = min(time_ms, join.next_settled_ms)
            following_ms = end_ms + length_ms + max(0, until_ms - end_ms - length_ms) // length_ms * length_ms
            self._state.interval_end_ms = following_ms if join.pending or join.waiting else None

    def _close(self, end_ms: int, outputs: LearningOutputs) -> None:
        state = self._state
        outputs.intervals_closed += 1
        self._reference.close(end_ms, self._version(end_ms))
        if state.losses[0]:
            outputs.loss = state.losses[1] / state.losses[0]
            state.losses = 0, 0.0
        if not state.lessons:
            return
        ordered = [each for each in _last_values(state.lessons) if self._fits(each[0])]
        measured = self._gate.select([lesson for lesson, _ in ordered])
        for place, (lesson, is_new) in enumerate(ordered):
            if place in measured:
                self._gate.measure(lesson, self._predict)
            self._learn(lesson, is_new=is_new)
        state.lessons = []
        state.estimator = river_format.encode(self._estimator)
        if state.counts.learned >= self._learning.minimum_labels:
            self._publish(end_ms, state.estimator, outputs)

    def _version(self, end_ms: int) -> int:
        assert self._state.first_ms is not None, "set with the first record"
        return (end_ms - self._state.first_ms) // self._learning.interval_ms

    def _fits(self, lesson: Lesson) -> bool:
        is_fit = len(lesson.features) == len(self._names)
        self._state.counts.unfit += not is_fit
        return is_fit

    def _predict(self, lesson: Lesson) -> float:
        return learned_versions.score_of(
            self._estimator, self._row(lesson), as_classifier=self._is_classifier
        )

    def _row(self, lesson: Lesson) -> learned_versions.EstimatorRow:
        return learned_versions.row_of(self._names, lesson.features, self._fill)

    def _learn(self, lesson: Lesson, *, is_new: bool) -> None:
        counts = self._state.counts
        try:
            row = self._row(lesson)
            self._estimator.learn_one(row, bool(lesson.label) if self._is_binary else lesson.label)
        except Exception:  # noqa: BLE001  # any error here concerns one row; it is counted
            counts.failed += 1
        else:
            counts.learned += is_new
            counts.relearned += not is_new

    def _publish(self, end_ms: int, estimator: bytes, outputs: LearningOutputs) -> None:
        state = self._state
        version = self._version(end_ms)
        verdict = self._gate.judge(version, end_ms, self._predict)
        starts_ms, passed = end_ms + self._learning.delay_ms, verdict.report.passed
        announcement = Announcement(version, end_ms, starts_ms, state.counts.learned, passed)
        state.learned = [*state.learned, announcement][-KEPT_MAX:]
        outputs.learned.append(announcement)
        outputs.verdicts.append(verdict)
        outputs.published.append(
            records.LearnedModel(
                model=self._model,
                version=version,
                interval_end_ms=end_ms,
                labels=state.counts.learned,
                estimator=estimator,
            )
        )


def _last_values(lessons: Sequence[Lesson]) -> list[tuple[Lesson, bool]]:
    """Return the lessons in the order of learning, without those that another of them corrects.

    Each comes with whether its request was not learned before.
    """
    numbers = {(each.prediction_id, each.request_time_ms, each.correction) for each in lessons}
    ordered = sorted(lessons, key=lambda each: (each.label_time_ms, each.prediction_id, each.correction))
    found = []
    for each in ordered:
        request = each.prediction_id, each.request_time_ms
        if (*request, each.correction + 1) in numbers:
            continue
        first = each.correction
        while first and (*request, first - 1) in numbers:
            first -= 1
        found.append((each, not first))
    return found
