"""From the records of a slice to events: decoding, lateness, watermarks, dead letters. Pure.

A partition's *watermark* is the event time up to which it is complete. A heartbeat of time t moves it
to t. An event of time t moves it to t - 1, because more of the same instant may follow. Lateness is
judged where a source partition is read in its own order, so the judgement is the same after every
replay, however partitions interleave.
"""

import dataclasses
import operator
from collections.abc import Sequence

from aiokafka import ConsumerRecord

from services.feature_store.plan import Source
from services.features.view_state import Event
from services.runtime import schema_registry_client
from services.runtime.settings import Settings
from services.runtime.watermarks import NEVER
from streams import codec, records, schemas

SOURCE_HEADER = "driftline-source"
"""Header of a forwarded record: ``partition:offset`` of the source record that it repeats."""
SERVICE = "features"
Place = tuple[int, int]
"""Source partition and offset of an event."""
_NOWHERE = (-1, -1)


@dataclasses.dataclass(frozen=True)
class Intake:
    """What a slice of a source partition holds."""

    events: list[tuple[ConsumerRecord, Event]]
    late: list[ConsumerRecord]
    letters: list[records.DeadLetter]
    watermark_ms: int


class SourceReader:
    """Reads the records of one source topic strictly by its declared schema."""

    def __init__(
        self, source: Source, record_bytes_max: int, registry: schemas.Registry | None = None
    ) -> None:
        """Compile the schema; raise `SchemaError` without a registry that it needs."""
        self.source = source
        self._decoder = schemas.decoder_of(source.topic, source.fields, source.encoding, registry)
        self._time_of = operator.attrgetter(source.event_time)
        self._record_bytes_max = record_bytes_max
        self.watermarks_ms: dict[int, int] = {}
        """The highest that was read of each source partition."""

    async def learn(self, slice_records: Sequence[ConsumerRecord]) -> None:
        """Ask a registry for what decoding these needs; raise `RegistryAwayError`."""
        await schemas.learn(self._decoder, (record.value for record in slice_records))

    def decode(self, record: ConsumerRecord, partition: int, offset: int) -> Event:
        """Return the event with this identity; raise `InvalidRecordError` with the reason."""
        size_bytes = len(record.value)
        if size_bytes > self._record_bytes_max:
            raise codec.InvalidRecordError(
                f"the record has {size_bytes} bytes, the limit is {self._record_bytes_max}"
            )
        value = self._decoder.decode(record.value)
        return Event(value, codec.epoch_ms(self._time_of(value)), partition, offset)

    def read(self, slice_records: Sequence[ConsumerRecord], watermark_ms: int) -> Intake:
        """Sort the records of a source partition, whose watermark was this before them."""
        events, late, letters = [], [], []
        lateness_ms = self.source.lateness_ms
        places = [(record.partition, record.offset) for record in slice_records]
        for record, event in zip(slice_records, self._decode_each(slice_records, places), strict=True):
            if event is None:
                watermark_ms = max(watermark_ms, _promised_ms(record))
            elif isinstance(event, codec.InvalidRecordError):
                letters.append(codec.dead_letter(SERVICE, record, str(event)))
            elif fault := codec.fault_of_time(event.time_ms, record.timestamp):
                letters.append(codec.dead_letter(SERVICE, record, str(fault)))
            elif event.time_ms <= watermark_ms - lateness_ms:
                late.append(record)
            else:
                events.append((record, event))
                if event.time_ms > watermark_ms:
                    watermark_ms = event.time_ms - 1
        if slice_records:
            partition = slice_records[0].partition
            self.watermarks_ms[partition] = max(self.watermarks_ms.get(partition, NEVER), watermark_ms)
        return Intake(events, late, letters, watermark_ms)

    def read_forwarded(
        self, slice_records: Sequence[ConsumerRecord], watermarks_ms: dict[int, int]
    ) -> Intake:
        """Sort the records of an internal partition, and bring the source partitions' watermarks forward."""
        events, letters = [], []
        sources = [source_of(record.headers) for record in slice_records]
        places = [source or _NOWHERE for source in sources]
        decoded = self._decode_each(slice_records, places)
        for record, source, event in zip(slice_records, sources, decoded, strict=True):
            if source is None:
                letters.append(codec.dead_letter(SERVICE, record, f"the header {SOURCE_HEADER} is missing"))
            elif event is None:
                promised_ms = _promised_ms(record)
                watermarks_ms[source[0]] = max(watermarks_ms.get(source[0], NEVER), promised_ms)
            elif isinstance(event, codec.InvalidRecordError):
                letters.append(codec.dead_letter(SERVICE, record, str(event)))
            else:
                events.append((record, event))
        return Intake(events, [], letters, min(watermarks_ms.values(), default=NEVER))

    def _decode_each(
        self, slice_records: Sequence[ConsumerRecord], places: Sequence[Place]
    ) -> Sequence[Event | codec.InvalidRecordError | None]:
        """Return of each record its event, why it is none, or None where it has no value."""
        raws = [record.value for record in slice_records]
        given = [raw for raw in raws if raw is not None]
        if max(map(len, given), default=0) > self._record_bytes_max:
            return self._decode_one_by_one(slice_records, places)
        try:
            values = iter(self._decoder.decode_all(given))
        except codec.InvalidRecordError:
            return self._decode_one_by_one(slice_records, places)
        time_of, epoch_ms = self._time_of, codec.epoch_ms
        return [
            None if raw is None else Event(value := next(values), epoch_ms(time_of(value)), *place)
            for raw, place in zip(raws, places, strict=True)
        ]

    def _decode_one_by_one(
        self, slice_records: Sequence[ConsumerRecord], places: Sequence[Place]
    ) -> Sequence[Event | codec.InvalidRecordError | None]:
        """Do the same for records of which some are not sound."""
        decoded: list[Event | codec.InvalidRecordError | None] = []
        for record, place in zip(slice_records, places, strict=True):
            try:
                decoded.append(None if record.value is None else self.decode(record, *place))
            except codec.InvalidRecordError as error:
                decoded.append(error)
        return decoded


def source_reader(source: Source, settings: Settings) -> SourceReader:
    """Return the reader of a source as an installation is set up."""
    return SourceReader(source, settings.record_bytes_max, schema_registry_client.connect(settings))


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
