"""One order for the records of all inputs, however the partitions interleave.

Kafka orders records within a partition only. Each partition has a bound: no earlier event will follow. All
records below the smallest bound, the frontier, are present, so they can be sorted and processed as if they
came from one partition.

A record below the bound of its partition is not lost: it counts at the bound. So the time at which a record
counts never falls within a partition, which keeps the offsets in order, and it depends on the content of the
partition alone, so a replay gives the same result.
"""

import bisect
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from streams import records

PREDICTION = 0
LABEL = 1
"""Sorted after predictions of the same instant: a label can be known at once, but not before."""
REJECTED = 2

LAG_TOLERANCE_MS = 60_000
"""An answer over HTTP is ahead of its stream if it is nearer to the wall time by more than this."""
_LAG_UNKNOWN_MS = 2**62
"""Lag of a stream that has only had heartbeats: every answer over HTTP is ahead of it."""
BEFORE_ALL_MS = -(2**62)
AFTER_ALL_MS = 2**62

T = TypeVar("T")


class PartitionKey(NamedTuple):
    """One partition of an input."""

    kind: int
    """`PREDICTION` or `LABEL`."""
    partition: int


def by_partition(predictions: Sequence[T], labels: Sequence[T]) -> dict[PartitionKey, T]:
    """Return values in the order of their partitions by the partition."""
    found = {PartitionKey(PREDICTION, number): each for number, each in enumerate(predictions)}
    return found | {PartitionKey(LABEL, number): each for number, each in enumerate(labels)}


def in_order(found: Mapping[PartitionKey, T]) -> tuple[list[T], list[T]]:
    """Return what `by_partition` takes: the values of predictions and of labels."""
    ordered = sorted(found.items(), key=operator.itemgetter(0))
    predictions = [each for key, each in ordered if key.kind == PREDICTION]
    return predictions, [each for key, each in ordered if key.kind == LABEL]


class Resume(msgspec.Struct, array_like=True, frozen=True):
    """Where to continue in one partition after a restart."""

    offset: int = 0
    """The offset of the first record that was not processed."""
    bound_ms: int = BEFORE_ALL_MS
    """All records from this offset on count at this event time or later."""
    lag_ms: int | None = None
    """See `_Partition.lag_ms`."""


class TracedPrediction(records.Prediction, kw_only=True, frozen=True, gc=False):
    """A prediction with the trace headers for its outcome."""

    trace: list[tuple[str, bytes]]

    @classmethod
    def of(cls, prediction: records.Prediction, trace: list[tuple[str, bytes]]) -> "TracedPrediction":
        """Return the same prediction with its trace."""
        return cls(**msgspec.structs.asdict(prediction), trace=trace)


class Item(NamedTuple):
    """One record in the common order: by time, kind, partition and offset.

    Records of one partition keep the order of their offsets, on which `streams.repeats.RepeatFilter` relies.
    """

    counts_at_ms: int
    """Event time, raised to the bound of its partition; see also `Inputs.add_prediction`."""
    kind: int
    partition: int
    offset: int
    id: str
    record: Any
    """`records.Prediction`, `records.Label`, `records.DeadLetter` or None."""


_TIME = operator.itemgetter(0)
_ORDER = operator.itemgetter(0, 1, 2, 3)


class _Partition:
    def __init__(self, resume: Resume) -> None:
        self.next_offset = resume.offset
        self.bound_ms = resume.bound_ms
        self.lag_ms = resume.lag_ms
        """Wall time minus event time of the last prediction for a record of Kafka; None before the first
        record that tells the event time of the stream."""
        self.waiting: list[Item] = []
        self._taken_lag_ms = resume.lag_ms
        """The value of ``lag_ms`` after the records that were taken."""
        self._first_heartbeat: int | None = None
        """The offset of a heartbeat before any record that did not come over HTTP."""

    def lower(self, bound_ms: int) -> None:
        """Let the records that wait count at ``bound_ms`` at the latest, and the next ones from there on."""
        self.bound_ms = bound_ms
        self.waiting = [each._replace(counts_at_ms=min(each.counts_at_ms, bound_ms)) for each in self.waiting]

    def note_heartbeat(self, offset: int) -> None:
        if self.lag_ms is None:  # heartbeats move the time, so nothing else needs to
            self.lag_ms, self._first_heartbeat = _LAG_UNKNOWN_MS, offset

    def take_before(self, frontier_ms: int) -> list[Item]:
        ready = bisect.bisect_left(self.waiting, frontier_ms, key=_TIME)
        taken = self.waiting[:ready]
        del self.waiting[:ready]
        for item in reversed(taken):  # nearly always the last one
            if (lag_ms := _stream_lag_ms(item.record)) is not None:
                self._taken_lag_ms = lag_ms
                break
        return taken

    def resume(self) -> Resume:
        if not self.waiting:
            return Resume(self.next_offset, self.bound_ms, self.lag_ms)
        first, lag_ms = self.waiting[0], self._taken_lag_ms
        if lag_ms is None and self._first_heartbeat is not None and self._first_heartbeat < first.offset:
            lag_ms = _LAG_UNKNOWN_MS
        return Resume(first.offset, first.counts_at_ms, lag_ms)


def _placed(
    partition: _Partition, event_time_ms: int, wall_ms: int | None, *, is_over_http: bool
) -> tuple[int, int | None]:
    """Return the event time at which a record counts at the earliest, and the lag of its stream after it."""
    known_ms = partition.lag_ms
    if wall_ms is None:
        return event_time_ms, known_ms
    lag_ms = wall_ms - event_time_ms
    if not is_over_http:
        return event_time_ms, lag_ms
    is_ahead = known_ms is not None and lag_ms < known_ms - LAG_TOLERANCE_MS
    return (partition.bound_ms if is_ahead else event_time_ms), known_ms


def _stream_lag_ms(record: Any) -> int | None:
    """Return wall time minus event time of a record; None if it came over HTTP."""
    if isinstance(record, records.Prediction):
        is_of_stream = record.source_offset != records.ASKED_OVER_HTTP
        return record.scored_time_ms - record.event_time_ms if is_of_stream else None
    if isinstance(record, records.Label) and record.written_time_ms is not None and not record.is_over_http:
        return record.written_time_ms - record.event_time_ms
    return None


class Inputs:
    """Buffers records until the bounds of all partitions have passed them."""

    def __init__(self, resume: Mapping[PartitionKey, Resume]) -> None:
        """Start each partition at its position."""
        self._partitions = {source: _Partition(at) for source, at in resume.items()}
        self._predictions = {
            source.partition: partition
            for source, partition in self._partitions.items()
            if source.kind == PREDICTION
        }

    def add(self, source: PartitionKey, offset: int, event_time_ms: int, key: str, record: Any) -> None:
        """Add a record with its event time; offsets that were read before are ignored."""
        partition = self._partitions[source]
        if offset < partition.next_offset:
            return
        bound_ms = max(partition.bound_ms, event_time_ms)  # first: after an error here nothing has changed
        partition.next_offset = offset + 1
        partition.bound_ms = bound_ms
        partition.waiting.append(Item(bound_ms, source.kind, source.partition, offset, key, record))

    def add_prediction(self, number: int, offset: int, prediction: records.Prediction) -> None:
        """Add a prediction from a partition, in order.

        One that was requested over HTTP may be dated ahead of the stream, as when somebody tries the API
        while Kafka's requests are a replay. Then it counts at the bound, which it does not move: it would
        make all that follow late. The stream's event time is estimated from the wall time, see ``lag_ms``.
        """
        partition = self._predictions[number]
        if offset < partition.next_offset:
            return
        wall_ms = prediction.scored_time_ms
        is_over_http = prediction.source_offset == records.ASKED_OVER_HTTP
        time_ms, lag_ms = _placed(partition, prediction.event_time_ms, wall_ms, is_over_http=is_over_http)
        if partition.lag_ms is None and lag_ms is not None:
            self._correct(partition, time_ms)
        bound_ms = max(partition.bound_ms, time_ms)
        partition.next_offset = offset + 1
        partition.bound_ms = bound_ms
        partition.lag_ms = lag_ms
        partition.waiting.append(
            Item(bound_ms, PREDICTION, number, offset, prediction.prediction_id, prediction)
        )

    def add_label(self, number: int, offset: int, label: records.Label) -> None:
        """Add a label from a partition, in order; for one that came over HTTP see `add_prediction`."""
        source = PartitionKey(LABEL, number)
        partition = self._partitions[source]
        if offset < partition.next_offset:
            return
        written_ms, is_over_http = label.written_time_ms, label.is_over_http
        time_ms, lag_ms = _placed(partition, label.event_time_ms, written_ms, is_over_http=is_over_http)
        if partition.lag_ms is None and not is_over_http:
            self._correct(partition, time_ms)
        self.add(source, offset, time_ms, label.prediction_id, label)
        partition.lag_ms = lag_ms
        if not is_over_http:  # it tells the time of its stream, also without a wall time
            partition.note_heartbeat(offset)

    def add_heartbeat(self, source: PartitionKey, offset: int, watermark_ms: int) -> None:
        """Add a heartbeat: no event up to this time will follow."""
        partition = self._partitions[source]
        if offset >= partition.next_offset:
            if partition.lag_ms is None:
                self._correct(partition, watermark_ms + 1)
            partition.next_offset = offset + 1
            partition.bound_ms = max(partition.bound_ms, watermark_ms + 1)
            partition.note_heartbeat(offset)

    def _correct(self, partition: _Partition, stream_ms: int) -> None:
        """Take the time from the first record of the stream, if those over HTTP before it were ahead of it.

        The frontier never falls: what was taken before it has been processed.
        """
        if partition.bound_ms > stream_ms + LAG_TOLERANCE_MS:
            partition.lower(max(stream_ms, self.frontier_ms))

    def reject(self, source: PartitionKey, offset: int, letter: records.DeadLetter | None) -> None:
        """Add a record without a usable event time: it counts at the partition's bound.

        The letter is None if it was written before.
        """
        partition = self._partitions[source]
        if offset < partition.next_offset:
            return
        partition.next_offset = offset + 1
        partition.waiting.append(
            Item(partition.bound_ms, REJECTED, source.partition, offset, str(source.kind), letter)
        )

    @property
    def frontier_ms(self) -> int:
        """All records that count before this event time have been added."""
        return min(partition.bound_ms for partition in self._partitions.values())

    def take(self) -> list[Item]:
        """Remove and return all records before the frontier, in the common order."""
        return self._take_before(self.frontier_ms)

    def take_all(self) -> list[Item]:
        """Remove and return all records, in the common order: nothing earlier will be added."""
        return self._take_before(AFTER_ALL_MS)

    def _take_before(self, frontier_ms: int) -> list[Item]:
        taken: list[Item] = []
        for partition in self._partitions.values():
            taken += partition.take_before(frontier_ms)
        taken.sort(key=_ORDER)
        return taken

    def ahead(self, records_max: int) -> set[PartitionKey]:
        """Return the partitions to pause: more records wait than this, and they do not limit the frontier."""
        frontier = self.frontier_ms
        return {
            source
            for source, partition in self._partitions.items()
            if len(partition.waiting) > records_max and partition.bound_ms > frontier
        }

    def resume(self) -> dict[PartitionKey, Resume]:
        """Return where to continue after a restart, if all records taken have been processed."""
        return {source: partition.resume() for source, partition in self._partitions.items()}
