"""One order for all inputs, the same however the partitions interleave.

Kafka orders records within a partition and nothing across partitions. Each partition promises a
bound: nothing before it will follow. Records below the smallest bound, the frontier, are complete, so
they can be sorted and processed as if they came from one place.

A record that breaks its partition's promise is not lost: it counts at the partition's bound. So the
time at which a record counts never falls within a partition, which keeps the offsets in order, and it
depends on the partition's own content alone, which makes a replay give the same.
"""

import bisect
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from streams import records

PREDICTION = 0
LABEL = 1
"""After the predictions of the same instant: an answer can be known at once, never before."""
REJECTED = 2

BEFORE_ALL_MS = -(2**62)


class PartitionKey(NamedTuple):
    """One partition of an input."""

    kind: int
    """`PREDICTION` or `LABEL`."""
    partition: int


class Resume(msgspec.Struct, array_like=True, frozen=True):
    """Where to go on in one partition after a restart."""

    offset: int = 0
    """The first record that was not processed."""
    bound_ms: int = BEFORE_ALL_MS
    """Everything from there on counts at this event time or later."""


class TracedPrediction(records.Prediction, kw_only=True, frozen=True, gc=False):
    """A prediction with the trace that goes on to its outcome."""

    trace: list[tuple[str, bytes]]

    @classmethod
    def of(cls, prediction: records.Prediction, trace: list[tuple[str, bytes]]) -> "TracedPrediction":
        """Return the same prediction with its trace."""
        return cls(**msgspec.structs.asdict(prediction), trace=trace)


class Item(NamedTuple):
    """One record in the common order: by time, kind, id; partition and offset settle the rest."""

    counts_at_ms: int
    """Event time, raised to the bound that its partition had promised."""
    kind: int
    id: str
    partition: int
    offset: int
    record: Any
    """`records.Prediction`, `records.Label`, `records.DeadLetter` or None."""


_TIME = operator.itemgetter(0)


class _Partition:
    def __init__(self, resume: Resume) -> None:
        self.next_offset = resume.offset
        self.bound_ms = resume.bound_ms
        self.waiting: list[Item] = []


class Inputs:
    """Holds back records until every partition has promised that nothing earlier will follow."""

    def __init__(self, resume: Mapping[PartitionKey, Resume]) -> None:
        """Start each partition where it was left."""
        self._partitions = {source: _Partition(at) for source, at in resume.items()}

    def add(self, source: PartitionKey, offset: int, event_time_ms: int, key: str, record: Any) -> None:
        """Take one record with its event time; offsets that were read before are ignored."""
        partition = self._partitions[source]
        if offset < partition.next_offset:
            return
        partition.next_offset = offset + 1
        partition.bound_ms = max(partition.bound_ms, event_time_ms)
        partition.waiting.append(Item(partition.bound_ms, source.kind, key, source.partition, offset, record))

    def add_heartbeat(self, source: PartitionKey, offset: int, watermark_ms: int) -> None:
        """Take the promise that no event up to this time will follow."""
        partition = self._partitions[source]
        if offset >= partition.next_offset:
            partition.next_offset = offset + 1
            partition.bound_ms = max(partition.bound_ms, watermark_ms + 1)

    def reject(self, source: PartitionKey, offset: int, letter: records.DeadLetter | None) -> None:
        """Take a record that has no usable event time: it counts at the partition's bound.

        None stands for a letter that was written already.
        """
        partition = self._partitions[source]
        if offset < partition.next_offset:
            return
        partition.next_offset = offset + 1
        partition.waiting.append(
            Item(partition.bound_ms, REJECTED, str(source.kind), source.partition, offset, letter)
        )

    @property
    def frontier_ms(self) -> int:
        """Every record that counts before this event time is here."""
        return min(partition.bound_ms for partition in self._partitions.values())

    def take(self) -> list[Item]:
        """Remove and return all records before the frontier, in the common order."""
        frontier = self.frontier_ms
        taken: list[Item] = []
        for partition in self._partitions.values():
            ready = bisect.bisect_left(partition.waiting, frontier, key=_TIME)
            taken += partition.waiting[:ready]
            del partition.waiting[:ready]
        taken.sort()
        return taken

    def ahead(self, records_max: int) -> set[PartitionKey]:
        """Name the partitions to pause: many records wait there, and they do not hold the frontier."""
        frontier = self.frontier_ms
        return {
            source
            for source, partition in self._partitions.items()
            if len(partition.waiting) > records_max and partition.bound_ms > frontier
        }

    def resume(self) -> dict[PartitionKey, Resume]:
        """Return where to go on after a restart, if everything taken has been processed."""
        return {source: _resume_of(partition) for source, partition in self._partitions.items()}


def _resume_of(partition: _Partition) -> Resume:
    if partition.waiting:
        first = partition.waiting[0]
        return Resume(first.offset, first.counts_at_ms)
    return Resume(partition.next_offset, partition.bound_ms)
