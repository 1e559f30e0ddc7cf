"""Predictions that wait for their labels: the newest in memory, the others on disk.

A service with 1,000 requests per second and a label horizon of 30 days waits for 2.6 billion labels. Most
labels that come soon concern new predictions; memory holds those, `PendingDisk` the rest.
"""

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from services.monitoring.pending_disk import PendingDisk, StoredEntry
from streams import records
from streams.inputs import AFTER_ALL_MS

IN_MEMORY_MAX = 100_000
"""Predictions of a model that a snapshot holds: about 60 MB of memory, 4 MB of snapshot."""


class JoinedLabel(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """When the label of a prediction became known: times after the prediction's event time."""

    delay_ms: int
    """Delay of the label whose value counts; below 0 if the label was dated before its request."""
    restated_ms: int = 0
    """Time after ``delay_ms`` at which the latest label with this value is dated."""
    corrections: int = 0
    """How often the value has changed."""

    @property
    def latest_ms(self) -> int:
        """The latest delay of a label with the value that counts."""
        return self.delay_ms + self.restated_ms

    def restated(self, delay_ms: int) -> "JoinedLabel":
        """Return the same label, stated again by a later one."""
        return JoinedLabel(self.delay_ms, delay_ms - self.delay_ms, self.corrections)


class PendingPrediction(msgspec.Struct, array_like=True, gc=False):
    """The fields of a prediction that the join needs."""

    prediction_id: str
    event_time_ms: int
    counts_at_ms: int
    """Time of the prediction in the common order of all inputs. It never decreases from one entry to the
    next, so eviction looks at the first entries only."""
    version: int
    arm: str
    score: float | None
    predicted: float | None
    """The predicted value; for a class, its index in the declared order; null without a prediction."""
    shadow_scores: dict[str, float]
    label: float | None = None
    """The label that counts, kept to recognise further labels."""
    trace: list[tuple[str, bytes]] | None = None
    """Trace headers, copied to the outcome."""
    features: list[records.FeatureValue] = []
    """The served features; empty unless the join keeps features."""
    probabilities: list[float] = []
    """Multiclass: the probability of each class, in the declared order."""
    segments: list[str] = []
    """The monitored segments that the prediction belongs to."""
    shadow_versions: dict[str, int] = {}
    joined: JoinedLabel | None = None
    """When ``label`` became known; null without one, and for one that an older version joined."""
    shadow_probabilities: dict[str, list[float]] = {}


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(PendingPrediction)


class PendingPredictions:
    """The predictions of one model whose label horizon has not passed, by id and in their common order."""

    def __init__(
        self,
        entries: Iterable[PendingPrediction] = (),
        disk: PendingDisk | None = None,
        in_memory_max: int | None = None,
    ) -> None:
        """Continue from a snapshot.

        Args:
            entries: The newest predictions, in order.
            disk: Those before, as they were when the snapshot was taken; without it, all stay in memory.
            in_memory_max: Maximum number of predictions in memory after `settle`; by default `IN_MEMORY_MAX`.
        """
        self._memory = {entry.prediction_id: entry for entry in entries}
        self._disk = disk
        self._looked_up: tuple[PendingPrediction, StoredEntry] | None = None
        """The last one that was read from disk."""
        self._in_memory_max = IN_MEMORY_MAX if in_memory_max is None else in_memory_max

    def __len__(self) -> int:
        """Return the number of predictions that wait."""
        return len(self._memory) + (self._disk.count if self._disk else 0)

    def get(self, prediction_id: str) -> PendingPrediction | None:
        """Return a prediction; None if it does not wait (any more)."""
        entry = self._memory.get(prediction_id)
        if entry is None and self._disk and (found := self._disk.get(prediction_id)) is not None:
            entry = _DECODER.decode(found.value)
            self._looked_up = entry, found
        return entry

    def pop(self, prediction_id: str) -> PendingPrediction | None:
        """Remove and return a prediction, if it waits."""
        entry = self._memory.pop(prediction_id, None)
        if entry is None and self._disk and (found := self._disk.get(prediction_id)) is not None:
            self._disk.remove(found)
            entry = _DECODER.decode(found.value)
        return entry

    def append(self, entry: PendingPrediction) -> None:
        """Add a prediction that counts at the time of the last one or later, and whose id is new."""
        self._memory[entry.prediction_id] = entry

    def note_label(self, entry: PendingPrediction, label: float, joined: JoinedLabel) -> None:
        """Store the label of the prediction that `get` has returned last, or that `append` has added."""
        entry.label, entry.joined = label, joined
        if self._disk and entry.prediction_id not in self._memory:
            assert self._looked_up is not None, "get has returned it"
            found, stored = self._looked_up
            assert found is entry, "another one was looked up since"
            self._disk.replace(stored, _ENCODER.encode(entry))

    def take_before(self, counts_at_ms: int) -> Iterator[PendingPrediction]:
        """Remove and yield the predictions that count before an event time, in order."""
        if self._disk:
            yield from map(_DECODER.decode, self._disk.take_before(counts_at_ms))
        passed = list(
            itertools.takewhile(lambda entry: entry.counts_at_ms < counts_at_ms, self._memory.values())
        )
        for entry in passed:
            del self._memory[entry.prediction_id]
            yield entry

    def between(self, start_ms: int, stop_ms: int = AFTER_ALL_MS) -> Iterator[PendingPrediction]:
        """Yield the predictions that count from an event time on and before another one, in order.

        They must not be changed meanwhile.
        """
        if self._disk:
            yield from map(_DECODER.decode, self._disk.between(start_ms, stop_ms))
        for entry in self._memory.values():
            if entry.counts_at_ms >= stop_ms:
                return
            if entry.counts_at_ms >= start_ms:
                yield entry

    def use_disk(self, disk: PendingDisk) -> None:
        """Keep older predictions on a disk, which holds those before the ones in memory."""
        self._disk = disk

    @property
    def store(self) -> str:
        """The name of the disk's store; empty while it has none."""
        return self._disk.store if self._disk else ""

    def close(self) -> None:
        """Close the disk, if there is one."""
        if self._disk:
            self._disk.close()

    @property
    def needs_settling(self) -> bool:
        """Whether so much has changed since `settle` that memory would grow without another one."""
        return self._disk is not None and (
            len(self._memory) > 2 * self._in_memory_max or self._disk.changes > self._in_memory_max
        )

    def settle(self) -> tuple[list[PendingPrediction], int]:
        """Move the older predictions to disk; return those in memory, in order, and the disk's generation.

        A snapshot holds both: it can be restored as long as no later one than the next has been settled.
        """
        if self._disk is None:
            return list(self._memory.values()), 0
        surplus = len(self._memory) - self._in_memory_max
        if surplus > 0:
            for entry in list(itertools.islice(self._memory.values(), surplus)):
                del self._memory[entry.prediction_id]
                self._disk.append(entry.prediction_id, entry.counts_at_ms, _ENCODER.encode(entry))
        return list(self._memory.values()), self._disk.commit()
