"""From the records of a slice to events: decoding, lateness, watermarks, dead letters. Pure.

A partition's *watermark* is the event time up to which it is complete. A heartbeat of time t moves it
to t. An event of time t moves it to t - 1, because more of the same instant may follow. Lateness is
judged where a source partition is read in its own order, so the judgement is the same after every
replay, however partitions interleave.
"""

import dataclasses
import operator
from collections.abc import Iterable, Sequence

from aiokafka import ConsumerRecord

from services.feature_plan import Source
from services.features.states import Event
from services.watermarks import NEVER
from streams import codec, records

SOURCE_HEADER = "driftline-source"
"""Header of a forwarded record: ``partition:offset`` of the source record that it repeats."""
SERVICE = "features"


@dataclasses.dataclass(frozen=True)
class Intake:
    """What a slice of a source partition holds."""

    events: list[tuple[ConsumerRecord, Event]]
    late: list[ConsumerRecord]
    letters: list[records.DeadLetter]
    watermark_ms: int


class SourceReader:
    """Reads the records of one source topic strictly by its declared schema."""

    def __init__(self, source: Source, record_bytes_max: int) -> None:
        """Compile the schema."""
        self.source = source
        self._decode = codec.EventDecoder(source.fields).decode
        self._time_of = operator.attrgetter(source.event_time)
        self._record_bytes_max = record_bytes_max
        self.watermarks_ms: dict[int, int] = {}
        """The highest that was read of each source partition."""

    def decode(self, record: ConsumerRecord, partition: int, offset: int) -> Event:
        """Return the event with this identity; raise `InvalidRecordError` with the reason."""
        size_bytes = len(record.value)
        if size_bytes > self._record_bytes_max:
            raise codec.InvalidRecordError(
                f"the record has {size_bytes} bytes, the limit is {self._record_bytes_max}"
            )
        value = self._decode(record.value)
        return Event(value, codec.epoch_ms(self._time_of(value)), partition, offset)

    def read(self, slice_records: Sequence[ConsumerRecord], watermark_ms: int) -> Intake:
        """Sort the records of a source partition, whose watermark was this before them."""
        events, late, letters = [], [], []
        for record in slice_records:
            if record.value is None:
                watermark_ms = max(watermark_ms, _promised_ms(record))
                continue
            try:
                event = self.decode(record, record.partition, record.offset)
                codec.check_event_time(event.time_ms, record.timestamp)
            except codec.InvalidRecordError as error:
                letters.append(codec.dead_letter(SERVICE, record, str(error)))
                continue
            if event.time_ms <= watermark_ms - self.source.lateness_ms:
                late.append(record)
            else:
                events.append((record, event))
                watermark_ms = max(watermark_ms, event.time_ms - 1)
        if slice_records:
            partition = slice_records[0].partition
            self.watermarks_ms[partition] = max(self.watermarks_ms.get(partition, NEVER), watermark_ms)
        return Intake(events, late, letters, watermark_ms)

    def read_forwarded(
        self, slice_records: Iterable[ConsumerRecord], watermarks_ms: dict[int, int]
    ) -> Intake:
        """Sort the records of an internal partition, and bring the source partitions' watermarks forward."""
        events, letters = [], []
        for record in slice_records:
            place = source_of(record.headers)
            if place is None:
                letters.append(codec.dead_letter(SERVICE, record, f"the header {SOURCE_HEADER} is missing"))
                continue
            partition, offset = place
            if record.value is None:
                promised_ms = codec.watermark_of(record.headers)
                if promised_ms is not None:
                    watermarks_ms[partition] = max(watermarks_ms.get(partition, NEVER), promised_ms)
                continue
            try:
                events.append((record, self.decode(record, partition, offset)))
            except codec.InvalidRecordError as error:
                letters.append(codec.dead_letter(SERVICE, record, str(error)))
        return Intake(events, [], letters, min(watermarks_ms.values(), default=NEVER))


def _promised_ms(record: ConsumerRecord) -> int:
    promised_ms = codec.watermark_of(record.headers)
    return NEVER if promised_ms is None else promised_ms  # a tombstone of the application promises nothing


def source_header(partition: int, offset: int) -> tuple[str, bytes]:
    """Make the header that says which source record a forwarded one repeats."""
    return (SOURCE_HEADER, b"%d:%d" % (partition, offset))


def source_of(headers: codec.Headers) -> tuple[int, int] | None:
    """Return partition and offset of the source record; None without that header."""
    for name, value in headers:
        if name == SOURCE_HEADER:
            partition, _, offset = value.partition(b":")
            return int(partition), int(offset)
    return None
