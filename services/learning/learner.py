"""The learning process without its clients: decoded records in, published models out.

Labels are learned an interval of event time at a time, when every input partition has promised that
nothing of it will follow, by label time and prediction id. So what is learned is a function of the content
of the inputs alone: not of how partitions interleave, when the learner is asked to advance, or where it was
restarted.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from services.learning.arms_update import KEPT_MAX, Announcement
from services.model_registry import learned_versions, river_format
from services.monitoring.label_join import JoinTotals, LabelJoin, PendingPrediction
from services.monitoring.model_metrics import Measures
from services.runtime.declaration import ModelDeclaration
from streams import codec, records
from streams.inputs import BEFORE_ALL_MS, LABEL, PREDICTION, REJECTED, Inputs, Item, PartitionKey, Resume


class StateError(ValueError):
    """A state does not fit the topics: they were made anew. Nothing sound follows from it."""


class Lesson(msgspec.Struct, array_like=True, gc=False, order=True):
    """One labelled request of the open interval; the order of the fields is the order of learning."""

    label_time_ms: int
    prediction_id: str
    label: float
    features: list[records.FeatureValue]


class Counts(msgspec.Struct):
    """Running totals since the first event, beside those of the join."""

    learned: int = 0
    failed: int = 0
    """The estimator raised: the label is left out."""
    unfit: int = 0
    """Served with another number of features than are declared now."""


class State(msgspec.Struct):
    """All that a learner knows when everything taken has been processed, and where to go on reading."""

    predictions: list[Resume] = []
    """By partition."""
    labels: list[Resume] = []
    last_offsets: dict[int, int] = {}
    pending: list[PendingPrediction] = []
    totals: JoinTotals = msgspec.field(default_factory=JoinTotals)
    counts: Counts = msgspec.field(default_factory=Counts)
    first_ms: int | None = None
    """Where the first interval began."""
    interval_end_ms: int | None = None
    lessons: list[Lesson] = []
    losses: tuple[int, float] = (0, 0.0)
    """Of the answers whose label came in the open interval: their number and sum."""
    learned: list[Announcement] = []
    """The last versions that were published, `announcing.KEPT_MAX` at most."""
    estimator: bytes | None = None
    """At the end of the last interval; None before the first."""


@dataclasses.dataclass
class Outputs:
    """What came of one step. Write ``published`` before ``learned`` is announced, which refers to it."""

    published: list[records.LearnedModel] = dataclasses.field(default_factory=list)
    learned: list[Announcement] = dataclasses.field(default_factory=list)
    dead_letters: list[records.DeadLetter] = dataclasses.field(default_factory=list)
    intervals_closed: int = 0
    loss: float | None = None
    """Mean of the answers served, over the labels of the last closed interval that had any."""


class Learner:
    """Joins, collects and learns one model."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        feature_names: Sequence[str],
        make: Callable[[], Any],
        state: State,
    ) -> None:
        """Go on from a state; see `fresh_state`.

        Args:
            declaration: With a ``learning`` section.
            feature_names: In the order of the predictions' features.
            make: Makes an estimator that has learned nothing.
            state: What was known.
        """
        assert declaration.learning is not None, "who learns is declared"
        self.model = declaration.name
        self._declaration = declaration
        self._learning = declaration.learning
        self._names = list(feature_names)
        self._fill = declaration.features.missing.fill
        self._is_binary = declaration.task == "binary"
        self._measures = Measures(declaration)
        self.inputs = Inputs(
            {PartitionKey(PREDICTION, number): at for number, at in enumerate(state.predictions)}
            | {PartitionKey(LABEL, number): at for number, at in enumerate(state.labels)}
        )
        self._repeats = codec.RepeatFilter(state.last_offsets)
        self._join = LabelJoin(declaration.label.horizon_ms, state.totals, state.pending, keep_features=True)
        self._state = state
        self._estimator = make() if state.estimator is None else river_format.decode(state.estimator)

    # -- what comes in ---------------------------------------------------------------------------

    def add_prediction(self, partition: int, offset: int, prediction: records.Prediction) -> None:
        """Take a prediction from its partition, in order."""
        place = PartitionKey(PREDICTION, partition)
        self.inputs.add(place, offset, prediction.event_time_ms, prediction.prediction_id, prediction)

    def add_label(self, partition: int, offset: int, label: records.Label) -> None:
        """Take a label from its partition, in order."""
        self.inputs.add(
            PartitionKey(LABEL, partition), offset, label.event_time_ms, label.prediction_id, label
        )

    # -- what goes out ---------------------------------------------------------------------------

    @property
    def totals(self) -> JoinTotals:
        """What became of predictions and labels."""
        return self._join.totals

    @property
    def counts(self) -> Counts:
        """What became of the labels that were joined."""
        return self._state.counts

    @property
    def learned(self) -> list[Announcement]:
        """The last versions, which the arms have to know."""
        return self._state.learned

    @property
    def first_ms(self) -> int | None:
        """Where the first interval began; None before the first record."""
        return self._state.first_ms

    @property
    def pending(self) -> int:
        """Predictions in memory."""
        return len(self._join)

    @property
    def watermark_ms(self) -> int | None:
        """Everything up to this event time is processed after `advance`; None before the first records."""
        frontier = self.inputs.frontier_ms
        return None if frontier == BEFORE_ALL_MS else frontier - 1

    def advance(self) -> Outputs:
        """Process every record before the frontier, and learn every interval that ends there."""
        outputs = Outputs()
        for item in self.inputs.take():
            if item.kind == REJECTED:  # has no time of its own, and belongs to no interval
                self.totals.rejected += 1
                outputs.dead_letters.append(item.record)
                continue
            self._close_until(item.counts_at_ms, outputs)
            self._open(item.counts_at_ms)
            self._process(item)
        self._close_until(self.inputs.frontier_ms, outputs)
        return outputs

    def state(self) -> State:
        """Return what `__init__` takes; a checkpoint of it is sound once all outputs are acknowledged."""
        resume = sorted(self.inputs.resume().items())
        return msgspec.structs.replace(
            self._state,
            predictions=[at for place, at in resume if place.kind == PREDICTION],
            labels=[at for place, at in resume if place.kind == LABEL],
            last_offsets=self._repeats.last_offsets,
            pending=list(self._join.entries()),
        )

    # -- records ---------------------------------------------------------------------------------

    def _process(self, item: Item) -> None:
        if item.kind == LABEL:
            self._process_label(item.record)
        elif self._repeats.is_repeat(item.record.source_partition, item.record.source_offset):
            self.totals.repeated += 1
        else:
            self._join.add_prediction(item.record, item.counts_at_ms)

    def _process_label(self, label: records.Label) -> None:
        entry = self._join.add_label(label)
        if entry is None:
            return
        state = self._state
        state.lessons.append(Lesson(label.event_time_ms, label.prediction_id, label.value, entry.features))
        entry.features = []  # further labels of the same request are not learned
        if entry.score is not None:
            count, total = state.losses
            state.losses = count + 1, total + (self._measures.loss_of_score(entry.score, label.value) or 0.0)

    # -- intervals -------------------------------------------------------------------------------

    def _open(self, time_ms: int) -> None:
        state, length_ms = self._state, self._learning.interval_ms
        if state.interval_end_ms is None:
            state.interval_end_ms = (time_ms // length_ms + 1) * length_ms
        if state.first_ms is None:
            state.first_ms = state.interval_end_ms - length_ms

    def _close_until(self, time_ms: int, outputs: Outputs) -> None:
        """Close the intervals that end by then.

        Empty ones follow as long as predictions wait for labels, because those are forgotten at the ends of
        intervals. Then none is open until the next record: which there are must not depend on when we are
        asked.
        """
        while (end_ms := self._state.interval_end_ms) is not None and time_ms >= end_ms:
            self._close(end_ms, outputs)
            self._join.evict(end_ms)
            self._state.interval_end_ms = end_ms + self._learning.interval_ms if self.pending else None

    def _close(self, end_ms: int, outputs: Outputs) -> None:
        state = self._state
        outputs.intervals_closed += 1
        if state.losses[0]:
            outputs.loss = state.losses[1] / state.losses[0]
            state.losses = 0, 0.0
        if not state.lessons:
            return
        for lesson in sorted(state.lessons):
            self._learn(lesson)
        state.lessons = []
        state.estimator = river_format.encode(self._estimator)
        if state.counts.learned >= self._learning.minimum_labels:
            self._publish(end_ms, state.estimator, outputs)

    def _learn(self, lesson: Lesson) -> None:
        counts = self._state.counts
        if len(lesson.features) != len(self._names):
            counts.unfit += 1
            return
        row = learned_versions.row_of(self._names, lesson.features, self._fill)
        try:
            self._estimator.learn_one(row, bool(lesson.label) if self._is_binary else lesson.label)
        except Exception:  # noqa: BLE001  # whatever an estimator says of one row, the others go on; it is counted
            counts.failed += 1
        else:
            counts.learned += 1

    def _publish(self, end_ms: int, estimator: bytes, outputs: Outputs) -> None:
        state = self._state
        assert state.first_ms is not None, "set with the first record"
        version = (end_ms - state.first_ms) // self._learning.interval_ms
        announcement = Announcement(version, end_ms, end_ms + self._learning.delay_ms, state.counts.learned)
        state.learned = [*state.learned, announcement][-KEPT_MAX:]
        outputs.learned.append(announcement)
        outputs.published.append(
            records.LearnedModel(
                model=self.model,
                version=version,
                interval_end_ms=end_ms,
                labels=state.counts.learned,
                estimator=estimator,
            )
        )


def fresh_state(
    model: str, prediction_partitions: int, label_partitions: int, state: State | None = None
) -> State:
    """Return the state before the first record, or a checkpoint's; it has a place for each partition."""
    state = state or State()
    for places, partitions in ((state.predictions, prediction_partitions), (state.labels, label_partitions)):
        if len(places) > partitions:
            raise StateError(f"{model}: the state has {len(places)} partitions, its topic {partitions}")
        places.extend([Resume()] * (partitions - len(places)))
    return state
