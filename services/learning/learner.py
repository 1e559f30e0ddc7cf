"""The learning process without its clients: decoded records in, published models out.

Predictions are joined with their labels, and `services.learning.intervals` learns the labels of an interval
once no input partition can have a further record of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from services.learning import learner_basis
from services.learning.arms_update import Announcement
from services.learning.intervals import IntervalLearner, LearningOutputs
from services.learning.learner_state import LearnerState, LearningCounts
from services.model_registry.model_inputs import InputKind
from services.monitoring.label_join import JoinTotals, LabelJoin
from services.monitoring.label_settlement import ALL_SETTLED
from services.monitoring.label_values import absent_label
from services.monitoring.pending_disk import PendingDisk
from services.monitoring.pending_predictions import PendingPredictions
from services.monitoring.pending_rebuild import PendingRebuild, RebuildPoint, point_of, stop_offsets
from services.runtime.declaration import ModelDeclaration
from streams import records
from streams.feature_sets import Alignment, FeatureSets
from streams.inputs import (
    BEFORE_ALL_MS,
    LABEL,
    REJECTED,
    Inputs,
    Item,
    by_partition,
    in_order,
)
from streams.repeats import RepeatFilter

_log = structlog.get_logger()


class Learner:
    """Joins the predictions of one model with their labels, and learns them."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        feature_names: Sequence[str],
        make: Callable[[], Any],
        state: LearnerState,
        sets: FeatureSets | None = None,
        definitions: Mapping[str, str] | None = None,
        kinds: Mapping[str, InputKind] | None = None,
    ) -> None:
        """Continue from a state; see `services.learning.learner_state.fresh_state`.

        Args:
            declaration: A declaration with a ``learning`` section.
            feature_names: Names in the order of the predictions' features.
            make: Makes an estimator that has learned nothing.
            state: A checkpoint's, or a fresh one. Parts that do not fit the declaration any more are reset.
            sets: The published names of the features of predictions; without them rows must hold
                ``feature_names``.
            definitions: Digests of how the features of views are defined now, by feature. Rows of another
                definition are not learned.
            kinds: The kind of each feature, in the same order; by default all are numbers.
        """
        self.feature_names, self.definitions = tuple(feature_names), dict(definitions or {})
        changed = learner_basis.fit(state, declaration, feature_names, self.definitions)
        for part, before in changed.items():
            _log.warning("learning.part_reset", model=declaration.name, part=part, in_the_checkpoint=before)
        self.model = declaration.name
        self.feature_sets = sets or FeatureSets()
        self._alignment = Alignment(self.feature_sets, feature_names, self.definitions)
        self._rows = _RowLog(self.model, self.feature_sets, self.definitions)
        self.inputs = Inputs(by_partition(state.predictions, state.labels))
        self._repeats = RepeatFilter(state.last_offsets, state.last_offsets_by_source, state.newest_offsets)
        self.totals = state.totals
        """Counts of predictions and labels, by what the join did with them."""
        self._horizon_ms, self._absent = declaration.label.horizon_ms, absent_label(declaration)
        self._join = LabelJoin(
            self._horizon_ms,
            state.totals,
            PendingPredictions(state.pending),
            keep_features=True,
            waiting=state.waiting_labels,
            absent=self._absent,
            settlement=state.settlement,
        )
        self._intervals = IntervalLearner(declaration, feature_names, make, state, kinds)
        self._state = state
        self._in_work: Item | None = None
        self._forgets_scores = learner_basis.LABELS in changed

    # -- what comes in ---------------------------------------------------------------------------

    def add_prediction(self, partition: int, offset: int, prediction: records.Prediction) -> None:
        """Take a prediction from its partition, in order."""
        self.feature_sets.note(prediction.feature_set)
        self.inputs.add_prediction(partition, offset, prediction)

    def add_label(self, partition: int, offset: int, label: records.Label) -> None:
        """Take a label from its partition, in order."""
        self.inputs.add_label(partition, offset, label)

    # -- what goes out ---------------------------------------------------------------------------

    @property
    def counts(self) -> LearningCounts:
        """Counts of the labels that were joined."""
        return self._state.counts

    @property
    def learned(self) -> list[Announcement]:
        """The latest versions, which the arms have to include."""
        return self._state.learned

    @property
    def reference(self) -> records.Reference | None:
        """The reference of the versions from its own on; None until its rows are complete."""
        return self._state.reference

    @property
    def first_ms(self) -> int | None:
        """The start of the first interval; None before the first record."""
        return self._state.first_ms

    @property
    def pending(self) -> PendingPredictions:
        """The predictions that wait for a label."""
        return self._join.pending

    @property
    def watermark_ms(self) -> int | None:
        """Everything up to this event time is processed after `advance`; None before the first records."""
        frontier = self.inputs.frontier_ms
        return None if frontier == BEFORE_ALL_MS else frontier - 1

    def advance(self) -> LearningOutputs:
        """Process every record before the frontier, and learn every interval that ends there.

        After an error the learner must not be used any more; `suspects` tells which record was in process.
        """
        outputs = LearningOutputs()
        for item in self.inputs.take():
            self._in_work = None  # while intervals close, no record is at fault
            if item.kind == REJECTED:  # it has no event time, so it belongs to no interval
                self.totals.rejected += 1
                outputs.dead_letters.append(item.record)
                continue
            self._intervals.close_until(item.counts_at_ms, self._join, outputs)
            self._intervals.open(item.counts_at_ms)
            self._in_work = item
            self._process(item)
        self._in_work = None
        self._intervals.close_until(self.inputs.frontier_ms, self._join, outputs)
        return outputs

    def suspects(self) -> list[Item]:
        """Return the record in process when `advance` raised an error; none if an interval closed."""
        return [] if self._in_work is None else [self._in_work]

    def state(self) -> LearnerState:
        """Return what `__init__` takes; a checkpoint of it is sound once all outputs are acknowledged."""
        predictions, labels = in_order(self.inputs.resume())
        point = point_of(self.inputs.frontier_ms, predictions, labels, self._repeats)
        pending, generation = self._join.pending.settle()
        self._state.on_disk.note(
            self._join.pending.store,
            generation,
            point,
            min(self.evicted_before_ms, self.inputs.frontier_ms),
            self._join.waits_ms,
        )
        return msgspec.structs.replace(
            self._state,
            predictions=predictions,
            labels=labels,
            last_offsets=self._repeats.last_offsets,
            last_offsets_by_source=self._repeats.by_source,
            newest_offsets=self._repeats.newest,
            pending=pending,
            waiting_labels=self._join.waiting.entries(),
        )

    @property
    def evicted_before_ms(self) -> int:
        """The event time before which each horizon that ended has been noticed."""
        return self._intervals.evicted_before_ms

    def rebuild(self, disk: PendingDisk, lost_from: RebuildPoint) -> PendingRebuild:
        """Return what fills a disk again, from a point to the state from which this learner continues."""

        def kept(prediction: records.Prediction) -> records.Prediction:
            row = self._alignment.row(prediction.feature_set, prediction.features)
            named = _with_row(prediction, row)
            return msgspec.structs.replace(named, score=None) if self._forgets_scores else named

        pending = PendingPredictions(disk=disk, in_memory_max=0)
        join = LabelJoin(
            self._horizon_ms,
            JoinTotals(),
            pending,
            keep_features=True,
            absent=self._absent,
            settlement=ALL_SETTLED,
        )
        stop = stop_offsets(self._state.predictions, self._state.labels)
        return PendingRebuild(join, lost_from, stop, kept=kept)

    def _process(self, item: Item) -> None:
        if item.kind == LABEL:
            joined = self._join.add_label(item.record, item.counts_at_ms)
        elif self._repeats.is_repeat(
            item.record.source_partition, item.record.source_offset, item.record.source
        ):
            self.totals.repeated += 1
            return
        else:
            row = self._alignment.row(item.record.feature_set, item.record.features)
            if row is None:
                redefined = self.feature_sets.redefined(item.record.feature_set, self.definitions)
                self.counts.redefined += bool(redefined)
                self.totals.unnamed += not redefined
            self._rows.note(item.record.feature_set)
            entry = self._join.add_prediction(_with_row(item.record, row), item.counts_at_ms)
            joined = None if entry is None else self._join.take_waiting(entry)
        if joined is not None and (counted := self._join.counted(joined)) is not None:
            self._intervals.add(counted)


class _RowLog:
    """Logs once for each set of features that its rows are left out, or taken to fit."""

    def __init__(self, model: str, sets: FeatureSets, definitions: Mapping[str, str]) -> None:
        self._model, self._sets, self._definitions = model, sets, definitions
        self._told: set[str] = set()

    def note(self, digest: str) -> None:
        if digest in self._told:
            return
        self._told.add(digest)
        told = {"model": self._model, "feature_set": digest}
        if redefined := self._sets.redefined(digest, self._definitions):
            _log.warning("learning.rows_left_out", redefined=redefined, **told)
        elif assumed := self._sets.undefined(digest, self._definitions):
            _log.warning("learning.definitions_unknown", taken_to_fit=assumed, **told)


def _with_row(
    prediction: records.Prediction, row: Sequence[records.FeatureValue] | None
) -> records.Prediction:
    """Return a prediction with the declared features in order; without any if it has no row of them."""
    if row is prediction.features:
        return prediction
    return msgspec.structs.replace(prediction, features=list(row or ()))
