"""What gathering workers write for who judges: decoded, checked records, many in one message.

A slice tells all that was in a stretch of one partition, from the offset where reading went on to the one
where it goes on next: rows, promises about event time, records that were rejected. So slices may overlap and
repeat as they like, after a crash, a rebalance or from a worker that was away: who reads them passes over
each offset once, in order.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog

from services.monitoring.prediction_decoder import PredictionSink
from streams import codec, records
from streams.inputs import LABEL, PREDICTION, PartitionKey, Resume, TracedPrediction

ROWS_MAX = 1000
BYTES_MAX = 256 << 10
"""Of one slice with more than a row; half of what the producer takes as one batch."""

_log = structlog.get_logger()
Trace = list[tuple[str, bytes]]


class PredictionSlice(msgspec.Struct, array_like=True):
    """A stretch of a partition of the predictions."""

    begin: int
    """The first offset that it covers."""
    end: int
    """The first one behind it."""
    offsets: list[int]
    """Of the rows, rising."""
    rows: list[records.Prediction]
    heartbeats: list[tuple[int, int]]
    """Offset, and the time up to which nothing will follow."""
    rejected: list[int]
    """Offsets of the records that are among the dead letters."""
    traces: dict[int, Trace] = {}
    """By offset, of the rows that have one."""


class LabelSlice(msgspec.Struct, array_like=True):
    """A stretch of a partition of the labels; see `PredictionSlice`."""

    begin: int
    end: int
    offsets: list[int]
    rows: list[records.Label]
    heartbeats: list[tuple[int, int]]
    rejected: list[int]


Slice = TypeVar("Slice", PredictionSlice, LabelSlice)


class _Entry(NamedTuple):
    offset: int
    row: records.Prediction | records.Label | None = None
    heartbeat_ms: int | None = None
    """Of neither: rejected."""


class Slicer:
    """Collects what a `PredictionDecoder` decodes of one partition: its sink, and the inputs of that sink."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: list[_Entry] = []
        self._encode = msgspec.msgpack.Encoder().encode
        self._letters: list[records.DeadLetter] = []

    @property
    def inputs(self) -> "Slicer":
        """Take heartbeats and what is rejected as well."""
        return self

    def add_prediction(self, _partition: int, offset: int, prediction: records.Prediction) -> None:
        """Take a prediction."""
        self._entries.append(_Entry(offset, prediction))

    def add_label(self, _partition: int, offset: int, label: records.Label) -> None:
        """Take a label."""
        self._entries.append(_Entry(offset, label))

    def add_heartbeat(self, _place: PartitionKey, offset: int, watermark_ms: int) -> None:
        """Take a promise."""
        self._entries.append(_Entry(offset, heartbeat_ms=watermark_ms))

    def reject(self, _place: PartitionKey, offset: int, letter: records.DeadLetter | None) -> None:
        """Take a record that could not be read."""
        self._entries.append(_Entry(offset))
        if letter is not None:
            self._letters.append(letter)

    def take_letters(self) -> list[records.DeadLetter]:
        """Take away what was rejected."""
        letters, self._letters = self._letters, []
        return letters

    def taken(self, kind: int, begin: int, end: int) -> list[bytes]:
        """Return slices, encoded, that cover all from one offset to before another; start empty again."""
        entries, self._entries = self._entries, []
        pieces = []
        for start in range(0, max(len(entries), 1), ROWS_MAX):
            stop = entries[start + ROWS_MAX].offset if start + ROWS_MAX < len(entries) else end
            pieces += self._pieces(kind, entries[start : start + ROWS_MAX], begin, stop)
            begin = stop
        return pieces

    def _pieces(self, kind: int, entries: Sequence[_Entry], begin: int, end: int) -> list[bytes]:
        encoded = self._encode(_slice_of(kind, entries, begin, end))
        if len(encoded) <= BYTES_MAX or len(entries) < 2:  # one cannot be divided
            return [encoded]
        middle = len(entries) // 2
        border = entries[middle].offset
        return [
            *self._pieces(kind, entries[:middle], begin, border),
            *self._pieces(kind, entries[middle:], border, end),
        ]


def _slice_of(kind: int, entries: Sequence[_Entry], begin: int, end: int) -> PredictionSlice | LabelSlice:
    rows = [(entry.offset, entry.row) for entry in entries if entry.row is not None]
    offsets, values = [offset for offset, _ in rows], [row for _, row in rows]
    heartbeats = [(entry.offset, entry.heartbeat_ms) for entry in entries if entry.heartbeat_ms is not None]
    rejected = [entry.offset for entry in entries if entry.row is None and entry.heartbeat_ms is None]
    if kind == LABEL:
        labels = [row for row in values if isinstance(row, records.Label)]
        return LabelSlice(begin, end, offsets, labels, heartbeats, rejected)
    predictions = [row for row in values if isinstance(row, records.Prediction)]
    traces = {offset: row.trace for offset, row in rows if isinstance(row, TracedPrediction)}
    return PredictionSlice(begin, end, offsets, predictions, heartbeats, rejected, traces)


class SliceFeed:
    """Feeds one model's sink from slices, each offset of the source once.

    It remembers which slices are not wholly processed, to tell where a restart reads on.
    """

    def __init__(
        self,
        model: str,
        sink: PredictionSink,
        resume: Mapping[PartitionKey, Resume],
        positions: Mapping[PartitionKey, int],
    ) -> None:
        """Take where the inputs go on, in offsets of their sources, and in which slice that is."""
        self._model = model
        self._sink = sink
        self._next = {place: at.offset for place, at in resume.items()}
        self._positions = dict(positions)
        self._open: dict[PartitionKey, deque[tuple[int, int]]] = {place: deque() for place in resume}
        """The end of a slice in its source, and its own offset."""
        self._decode_predictions = msgspec.msgpack.Decoder(PredictionSlice).decode
        self._decode_labels = msgspec.msgpack.Decoder(LabelSlice).decode

    def take_predictions(self, messages: Sequence[codec.KafkaRecord], _now_ms: int) -> None:
        """Take messages of one partition of the slices of predictions."""
        for message in messages:
            place = PartitionKey(PREDICTION, message.partition)
            found = self._decode_predictions(message.value or b"")
            rows: Iterable[tuple[int, records.Prediction]] = zip(found.offsets, found.rows, strict=True)
            if found.traces:
                rows = [
                    (
                        offset,
                        TracedPrediction.of(row, found.traces[offset]) if offset in found.traces else row,
                    )
                    for offset, row in rows
                ]
            self._take(place, message.offset, found, rows, self._sink.add_prediction)

    def take_labels(self, messages: Sequence[codec.KafkaRecord], _now_ms: int) -> None:
        """Take messages of one partition of the slices of labels."""
        for message in messages:
            place = PartitionKey(LABEL, message.partition)
            found = self._decode_labels(message.value or b"")
            rows = zip(found.offsets, found.rows, strict=True)
            self._take(place, message.offset, found, rows, self._sink.add_label)

    def positions(self, resume: Mapping[PartitionKey, Resume]) -> dict[PartitionKey, int]:
        """Return the offset of the first slice that a restart needs, given where the inputs go on."""
        for place, at in resume.items():
            slices = self._open[place]
            while slices and slices[0][0] <= at.offset:
                self._positions[place] = slices.popleft()[1] + 1
        return dict(self._positions)

    def _take(
        self,
        place: PartitionKey,
        position: int,
        found: PredictionSlice | LabelSlice,
        rows: Iterable[tuple[int, Any]],
        add: Callable[[int, int, Any], None],
    ) -> None:
        expected = self._next[place]
        if found.begin > expected:
            _log.error("input.lost", model=self._model, place=tuple(place), records=found.begin - expected)
        self._open[place].append((found.end, position))
        self._next[place] = max(expected, found.end)
        for kind, offset, value in _in_order(rows, found.heartbeats, found.rejected):
            if kind == _ROW:
                add(place.partition, offset, value)
            elif kind == _HEARTBEAT:
                self._sink.inputs.add_heartbeat(place, offset, value)
            else:
                self._sink.inputs.reject(place, offset, None)


_ROW, _HEARTBEAT, _REJECTED = range(3)


def _in_order(
    rows: Iterable[tuple[int, Any]], heartbeats: Sequence[tuple[int, int]], rejected: Sequence[int]
) -> Iterator[tuple[int, int, Any]]:
    """Yield what a slice holds by offset: the kind, the offset, the value."""
    whole = ((_ROW, offset, row) for offset, row in rows)
    if not heartbeats and not rejected:
        return whole
    marks = [(_HEARTBEAT, offset, mark) for offset, mark in heartbeats]
    others = [(_REJECTED, offset, None) for offset in rejected]
    return heapq.merge(whole, marks, others, key=lambda each: each[1])
