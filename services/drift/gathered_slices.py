"""Slices that gathering workers write for the evaluating process: many decoded records in one message.

A slice covers a range of offsets of one partition, without gaps: its rows, its heartbeats, and the records
that were rejected. So slices may overlap and repeat, after a crash or a rebalance or from a worker that hung:
the reader takes each offset once, in order.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog

from services.monitoring.prediction_decoder import PredictionSink
from services.runtime.quarantine import RecordPlace, Rejected
from services.runtime.times import now_ms
from streams import codec, records
from streams.inputs import LABEL, PREDICTION, PartitionKey, Resume, TracedPrediction

ROWS_MAX = 1000
"""Maximum records per slice."""
BYTES_MAX = 256 << 10
"""Maximum size of a slice with more than one row; half of the producer's batch."""

_log = structlog.get_logger()
Trace = list[tuple[str, bytes]]


class PredictionSlice(msgspec.Struct, array_like=True):
    """The predictions in a range of offsets of one partition."""

    start: int
    """First offset of the range."""
    stop: int
    """Offset after the last one of the range."""
    offsets: list[int]
    """Offsets of the rows, rising."""
    rows: list[records.Prediction]
    heartbeats: list[tuple[int, int]]
    """Offset, and the event time up to which no record will follow."""
    rejected: list[int]
    """Offsets of the records that became dead letters."""
    traces: dict[int, Trace] = {}
    """Trace headers by offset, of the rows that have some."""


class LabelSlice(msgspec.Struct, array_like=True):
    """The labels in a range of offsets of one partition; see `PredictionSlice`."""

    start: int
    stop: int
    offsets: list[int]
    rows: list[records.Label]
    heartbeats: list[tuple[int, int]]
    rejected: list[int]


_Slice = TypeVar("_Slice", PredictionSlice, LabelSlice)


class _Entry(NamedTuple):
    offset: int
    row: records.Prediction | records.Label | None = None
    heartbeat_ms: int | None = None
    """Without a row or a heartbeat, the record was rejected."""


class Slicer:
    """Collects what a `PredictionDecoder` decodes of one partition: its sink, and the inputs of that sink."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: list[_Entry] = []
        self._encode = msgspec.msgpack.Encoder().encode
        self._letters: list[records.DeadLetter] = []

    @property
    def inputs(self) -> "Slicer":
        """This slicer: it takes heartbeats and rejected records as well."""
        return self

    def add_prediction(self, _partition: int, offset: int, prediction: records.Prediction) -> None:
        """Take a prediction."""
        self._entries.append(_Entry(offset, prediction))

    def add_label(self, _partition: int, offset: int, label: records.Label) -> None:
        """Take a label."""
        self._entries.append(_Entry(offset, label))

    def add_heartbeat(self, _source: PartitionKey, offset: int, watermark_ms: int) -> None:
        """Take a heartbeat."""
        self._entries.append(_Entry(offset, heartbeat_ms=watermark_ms))

    def reject(self, _source: PartitionKey, offset: int, letter: records.DeadLetter | None) -> None:
        """Take a record that could not be decoded."""
        self._entries.append(_Entry(offset))
        if letter is not None:
            self._letters.append(letter)

    def take_letters(self) -> list[records.DeadLetter]:
        """Return the dead letters since the last call."""
        letters, self._letters = self._letters, []
        return letters

    def take_slices(self, kind: int, start: int, stop: int) -> list[bytes]:
        """Return encoded slices that cover the offsets ``[start, stop)``, and start empty again."""
        entries, self._entries = self._entries, []
        encoded = []
        for first in range(0, max(len(entries), 1), ROWS_MAX):
            end = entries[first + ROWS_MAX].offset if first + ROWS_MAX < len(entries) else stop
            encoded += self._encode_slices(kind, entries[first : first + ROWS_MAX], start, end)
            start = end
        return encoded

    def _encode_slices(self, kind: int, entries: Sequence[_Entry], start: int, stop: int) -> list[bytes]:
        encoded = self._encode(_slice_of(kind, entries, start, stop))
        if len(encoded) <= BYTES_MAX or len(entries) < 2:  # a single record cannot be divided
            return [encoded]
        half = len(entries) // 2
        middle = entries[half].offset
        return [
            *self._encode_slices(kind, entries[:half], start, middle),
            *self._encode_slices(kind, entries[half:], middle, stop),
        ]


def _slice_of(kind: int, entries: Sequence[_Entry], start: int, stop: int) -> PredictionSlice | LabelSlice:
    rows = [(entry.offset, entry.row) for entry in entries if entry.row is not None]
    offsets, values = [offset for offset, _ in rows], [row for _, row in rows]
    heartbeats = [(entry.offset, entry.heartbeat_ms) for entry in entries if entry.heartbeat_ms is not None]
    rejected = [entry.offset for entry in entries if entry.row is None and entry.heartbeat_ms is None]
    if kind == LABEL:
        labels = [row for row in values if isinstance(row, records.Label)]
        return LabelSlice(start, stop, offsets, labels, heartbeats, rejected)
    predictions = [row for row in values if isinstance(row, records.Prediction)]
    traces = {offset: row.trace for offset, row in rows if isinstance(row, TracedPrediction)}
    return PredictionSlice(start, stop, offsets, predictions, heartbeats, rejected, traces)


class SliceFeed:
    """Reads slices into one model's sink, each offset of the source once.

    It remembers the slices that are not completely processed: a restart continues with the first of them.
    """

    def __init__(
        self,
        topics: Mapping[int, str],
        sink: PredictionSink,
        resume: Mapping[PartitionKey, Resume],
        positions: Mapping[PartitionKey, int],
        rejected: Rejected,
    ) -> None:
        """Continue reading.

        Args:
            topics: The topics that the records come from, by kind.
            sink: Takes the records.
            resume: Where the inputs continue, in offsets of these topics.
            positions: The offsets of the slices.
            rejected: Records that are rejected as defects, with the reasons.
        """
        self._topics = topics
        self._rejected = rejected
        self._sink = sink
        self._next = {source: at.offset for source, at in resume.items()}
        self._positions = dict(positions)
        self._open: dict[PartitionKey, deque[tuple[int, int]]] = {source: deque() for source in resume}
        """Slices in process: where each stops in its source, and its own offset."""
        self._decode_predictions = msgspec.msgpack.Decoder(PredictionSlice).decode
        self._decode_labels = msgspec.msgpack.Decoder(LabelSlice).decode

    def take_predictions(self, messages: Sequence[codec.KafkaRecord], _now_ms: int) -> None:
        """Take messages of one partition of prediction slices."""
        for message in messages:
            source = PartitionKey(PREDICTION, message.partition)
            if (found := self._decoded(source, message, self._decode_predictions)) is None:
                continue
            rows: Iterable[tuple[int, records.Prediction]] = zip(found.offsets, found.rows, strict=True)
            if found.traces:
                rows = [
                    (
                        offset,
                        TracedPrediction.of(row, found.traces[offset]) if offset in found.traces else row,
                    )
                    for offset, row in rows
                ]
            self._take(source, message.offset, found, rows, self._sink.add_prediction)

    def take_labels(self, messages: Sequence[codec.KafkaRecord], _now_ms: int) -> None:
        """Take messages of one partition of label slices."""
        for message in messages:
            source = PartitionKey(LABEL, message.partition)
            if (found := self._decoded(source, message, self._decode_labels)) is None:
                continue
            rows = zip(found.offsets, found.rows, strict=True)
            self._take(source, message.offset, found, rows, self._sink.add_label)

    def _decoded(
        self, source: PartitionKey, message: codec.KafkaRecord, decode: Callable[[bytes], _Slice]
    ) -> _Slice | None:
        """Return a slice; one that cannot be read becomes a dead letter in the place of its first record."""
        try:
            return decode(message.value or b"")
        except Exception as error:  # noqa: BLE001  # whatever it is, only this slice is at fault
            reason = f"the slice cannot be read: {error}"
            letter = codec.dead_letter("drift", message, reason, kind="defect")
            self._sink.inputs.reject(source, self._next[source], letter)
            return None

    def _place(self, source: PartitionKey, offset: int) -> RecordPlace:
        return RecordPlace(self._topics[source.kind], source.partition, offset)

    def _letter(self, source: PartitionKey, offset: int, row: Any, reason: str) -> records.DeadLetter:
        """Return the dead letter of a row: the record as it was decoded, the original one is not here."""
        return records.DeadLetter(
            service="drift",
            reason=reason,
            topic=self._topics[source.kind],
            partition=source.partition,
            offset=offset,
            key=None,
            value=records.encode(row),
            failed_time_ms=now_ms(),
            kind="defect",
        )

    def positions(self, resume: Mapping[PartitionKey, Resume]) -> dict[PartitionKey, int]:
        """Return the offset of the first slice that a restart needs, given where the inputs continue."""
        for source, at in resume.items():
            slices = self._open[source]
            while slices and slices[0][0] <= at.offset:
                self._positions[source] = slices.popleft()[1] + 1
        return dict(self._positions)

    def _take(
        self,
        source: PartitionKey,
        position: int,
        found: PredictionSlice | LabelSlice,
        rows: Iterable[tuple[int, Any]],
        add: Callable[[int, int, Any], None],
    ) -> None:
        expected = self._next[source]
        if found.start > expected:
            _log.error(
                "input.lost",
                topic=self._topics[source.kind],
                partition=source.partition,
                records=found.start - expected,
            )
        self._open[source].append((found.stop, position))
        self._next[source] = max(expected, found.stop)
        for kind, offset, value in _in_order(rows, found.heartbeats, found.rejected):
            if self._rejected and (reason := self._rejected.get(self._place(source, offset))):
                self._sink.inputs.reject(source, offset, self._letter(source, offset, value, reason))
            elif kind == _ROW:
                add(source.partition, offset, value)
            elif kind == _HEARTBEAT:
                self._sink.inputs.add_heartbeat(source, offset, value)
            else:
                self._sink.inputs.reject(source, offset, None)


_ROW, _HEARTBEAT, _REJECTED = range(3)


def _in_order(
    rows: Iterable[tuple[int, Any]], heartbeats: Sequence[tuple[int, int]], rejected: Sequence[int]
) -> Iterator[tuple[int, int, Any]]:
    """Yield the content of a slice in order of offsets: kind, offset, value."""
    whole = ((_ROW, offset, row) for offset, row in rows)
    if not heartbeats and not rejected:
        return whole
    marks = [(_HEARTBEAT, offset, mark) for offset, mark in heartbeats]
    others = [(_REJECTED, offset, None) for offset in rejected]
    return heapq.merge(whole, marks, others, key=lambda each: each[1])
