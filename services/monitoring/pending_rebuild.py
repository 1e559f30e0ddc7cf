"""Builds the predictions that wait again from their topics, when the disk that held them is lost.

A snapshot names where to read from: a `RebuildPoint` that is not after the oldest prediction that waits.
From there to the positions of the snapshot, predictions and labels are joined again, in the same order.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from services.monitoring.label_join import LabelJoin
from services.monitoring.pending_predictions import PendingPrediction
from services.monitoring.waiting_labels import WAIT_MS
from streams import records
from streams.inputs import (
    BEFORE_ALL_MS,
    LABEL,
    PREDICTION,
    REJECTED,
    Inputs,
    Item,
    PartitionKey,
    Resume,
    by_partition,
)
from streams.repeats import RepeatFilter

POINTS_PER_HORIZON = 24
"""A rebuild reads at most this much more than its reach: one part in 24 of a horizon."""
_REACH_HORIZONS = 2
"""Horizons to read before the first prediction: they tell whether its id was asked before."""

SegmentsOf = Callable[[records.Prediction], Sequence[str]]
Kept = Callable[[records.Prediction], records.Prediction]


class RebuildPoint(msgspec.Struct, array_like=True, frozen=True):
    """The positions of the inputs when exactly the records that count before an event time were processed."""

    frontier_ms: int
    predictions: list[Resume]
    """Positions by partition."""
    labels: list[Resume]
    last_offsets: dict[int, int]
    """See `streams.repeats.RepeatFilter`."""
    last_offsets_by_source: dict[str, dict[int, int]] = {}
    newest_offsets: dict[str, dict[int, list[int]]] = {}


def point_of(
    frontier_ms: int, predictions: list[Resume], labels: list[Resume], repeats: RepeatFilter
) -> RebuildPoint:
    """Return the present point of the inputs; the arguments may change later."""
    seen = copy.deepcopy((repeats.last_offsets, repeats.by_source, repeats.newest))
    return RebuildPoint(frontier_ms, predictions, labels, *seen)


BEGINNING = RebuildPoint(BEFORE_ALL_MS, [], [], {})
"""The position before the first record of every partition."""


class PositionsState(Protocol):
    """The part of a state that says where its inputs continue, and which offsets are repeats."""

    predictions: list[Resume]
    labels: list[Resume]
    last_offsets: dict[int, int]
    last_offsets_by_source: dict[str, dict[int, int]]
    newest_offsets: dict[str, dict[int, list[int]]]


class PendingMark(msgspec.Struct):
    """What a snapshot says of the predictions on disk, which it does not hold itself."""

    store: str = ""
    """See `PendingDisk`; empty: the disk does not hold what is wanted, and is read again."""
    generation: int = 0
    """0: there are none."""
    points: list[RebuildPoint] = []
    """Where to read from if the disk is lost; see `with_point`."""

    def note(
        self, store: str, generation: int, point: RebuildPoint, evicted_before_ms: int, horizon_ms: int
    ) -> None:
        """Note what is on disk when a snapshot is taken at a point; see `with_point`."""
        self.store, self.generation = store, generation
        self.points = with_point(self.points, point, evicted_before_ms, horizon_ms)

    def restart(self, kinds: Collection[str], state: "PositionsState") -> None:
        """Replace the offsets of topics that were recreated: they are not those of the same records.

        Args:
            kinds: ``predictions``, ``labels`` or both.
            state: Where the inputs continue; the topics that were recreated start from their beginning.
                Predictions of the old topic cannot be read again, those of the new one from here.
        """
        labels = list(state.labels)
        if "predictions" not in kinds:
            self.points = [msgspec.structs.replace(each, labels=labels) for each in self.points]
            return
        frontier_ms = min((at.bound_ms for at in (*state.predictions, *labels)), default=BEFORE_ALL_MS)
        repeats = RepeatFilter(state.last_offsets, state.last_offsets_by_source, state.newest_offsets)
        self.points = [point_of(frontier_ms, list(state.predictions), labels, repeats)]


def with_point(
    points: Sequence[RebuildPoint], new: RebuildPoint, evicted_before_ms: int, horizon_ms: int
) -> list[RebuildPoint]:
    """Return the points to keep when a snapshot is taken at a new one.

    The first one is a horizon before all predictions that wait, because an id may have been asked before.
    Labels that wait at the first one are not known there, so it is before all predictions that they wait for.

    Args:
        points: Those of the last snapshot, in order.
        new: The new one.
        evicted_before_ms: The event time up to which the horizons had ended, see `LabelJoin.evict`.
        horizon_ms: The label horizon.
    """
    kept = list(points) or [BEGINNING]
    if new.frontier_ms - kept[-1].frontier_ms >= horizon_ms // POINTS_PER_HORIZON:
        kept.append(new)
    reach_ms = _REACH_HORIZONS * horizon_ms + WAIT_MS
    while len(kept) > 1 and kept[1].frontier_ms <= evicted_before_ms - reach_ms:
        del kept[0]
    return kept


def stop_offsets(predictions: Sequence[Resume], labels: Sequence[Resume]) -> Mapping[PartitionKey, int]:
    """Return the offset before which a snapshot has processed all records, by partition."""
    return by_partition(*([at.offset for at in each] for each in (predictions, labels)))


class PendingRebuild:
    """Receives the records of one model from a point on, up to the positions of a snapshot."""

    def __init__(
        self,
        join: LabelJoin,
        point: RebuildPoint,
        stop: Mapping[PartitionKey, int],
        segments_of: SegmentsOf = lambda _prediction: (),
        kept: Kept = lambda prediction: prediction,
    ) -> None:
        """Begin at a point.

        Args:
            join: An empty join; its pending predictions may use a disk.
            point: Where to begin.
            stop: The offset before which a snapshot had processed all records, by partition.
            segments_of: Returns the monitored segments of a prediction.
            kept: Returns a prediction as the join gets it.
        """
        begin = by_partition(point.predictions, point.labels)
        self.inputs = Inputs({key: begin.get(key, Resume()) for key in begin.keys() | stop.keys()})
        self._join = join
        self._stop = stop
        self._repeats = RepeatFilter(point.last_offsets, point.last_offsets_by_source, point.newest_offsets)
        self._segments_of, self._kept = segments_of, kept

    def add_prediction(self, partition: int, offset: int, prediction: records.Prediction) -> None:
        """Receive a prediction; those of a partition come in order."""
        if offset < self._stop.get(PartitionKey(PREDICTION, partition), 0):
            self.inputs.add_prediction(partition, offset, prediction)

    def add_label(self, partition: int, offset: int, label: records.Label) -> None:
        """Receive a label; those of a partition come in order."""
        if offset < self._stop.get(PartitionKey(LABEL, partition), 0):
            self.inputs.add_label(partition, offset, label)

    def is_complete(self, positions: Mapping[PartitionKey, int]) -> bool:
        """Return whether the next offsets to read have reached the positions of the snapshot."""
        return all(positions.get(key, 0) >= offset for key, offset in self._stop.items())

    def advance(self) -> None:
        """Join the records that are complete, and bound the memory."""
        self._process(self.inputs.take())

    def finish(self, newest: Sequence[PendingPrediction], evicted_before_ms: int) -> None:
        """Join the last records, leave out those that the snapshot holds or that had expired, and settle.

        Args:
            newest: The predictions that the snapshot holds itself.
            evicted_before_ms: The event time up to which the horizons had ended.
        """
        self._process(self.inputs.take_all())
        self._join.evict(evicted_before_ms)
        for entry in newest:
            self._join.pending.pop(entry.prediction_id)
        self._join.pending.settle()

    def _process(self, items: Sequence[Item]) -> None:
        for item in items:
            if item.kind == REJECTED:
                continue
            if item.kind == LABEL:
                self._join.add_label(item.record, item.counts_at_ms)
            elif not self._repeats.is_repeat(
                item.record.source_partition, item.record.source_offset, item.record.source
            ):
                segments = self._segments_of(item.record)
                entry = self._join.add_prediction(self._kept(item.record), item.counts_at_ms, segments)
                if entry is not None:
                    self._join.take_waiting(entry)
        if self._join.pending.needs_settling:
            self._join.pending.settle()
