"""Decode the records of a slice into events, late records and dead letters, and advance watermarks. Pure.

A partition's *watermark* is the event time up to which it is complete. A heartbeat of time t moves it to t.
An event of time t moves it to t - 1, because more events of the same instant may follow. Lateness is decided
where a source partition is read in its own order. So the decision is the same in every replay, however
partitions interleave.
"""

import dataclasses
import operator
import re
from collections.abc import Sequence

from aiokafka import ConsumerRecord

from services.feature_store import field_ranges
from services.feature_store.plan import FeaturePlan, StreamSource
from services.features.view_state import Event
from services.runtime import schema_registry_client
from services.runtime.event_clock import EventClock
from services.runtime.settings import Settings
from services.runtime.watermarks import NEVER
from streams import codec, records, registered_codec, schemas
from streams.outages import is_outage

SOURCE_HEADER = "driftline-source"
"""Header of a forwarded record: ``partition:offset`` of the source record that it copies."""
ALL_SOURCES = (SOURCE_HEADER, b"all")
"""Header of a heartbeat that all partitions of the source have reached."""
SERVICE = "features"
SourceOffset = tuple[int, int]
"""Source partition and offset of an event."""
_UNKNOWN = (-1, -1)
_SOURCE = re.compile(rb"([0-9]{1,10}):(-1|[0-9]{1,19})")
_Decoded = Event | Exception | int
"""An event, why a record is invalid, or the watermark of a record without a value."""


@dataclasses.dataclass(frozen=True)
class DecodedSlice:
    """The decoded records of a slice."""

    events: list[tuple[ConsumerRecord, Event]]
    late: list[ConsumerRecord]
    dead_letters: list[records.DeadLetter]
    watermark_ms: int
    """The watermark after the slice."""


class SourceDecoder:
    """Decodes the records of one source topic strictly by its declared schema."""

    def __init__(
        self,
        source: StreamSource,
        record_bytes_max: int,
        registry: schemas.SchemaRegistry | None = None,
        ranges: codec.Ranges | None = None,
        clock: EventClock | None = None,
    ) -> None:
        """Compile the schema; raise `SchemaError` if it needs a registry and none is given.

        Args:
            source: The topic and its schema.
            record_bytes_max: Larger records are dead letters.
            registry: The schema registry, if the source's encoding needs one.
            ranges: See `services.feature_store.field_ranges`.
            clock: Tells which records are too far ahead; by default with the default tolerance.
        """
        self.source = source
        self._clock = clock or EventClock(SERVICE)
        self._decoder = registered_codec.decoder_of(
            source.topic, source.fields, source.encoding, registry, ranges
        )
        self._time_of = operator.attrgetter(source.event_time)
        self._record_bytes_max = record_bytes_max
        self.watermarks_ms: dict[int, int] = {}
        """The highest watermark so far of each source partition."""

    async def learn_schemas(self, slice_records: Sequence[ConsumerRecord]) -> None:
        """Fetch the schemas that these records need; raise `SchemaRegistryUnavailableError`."""
        await registered_codec.learn(self._decoder, (record.value for record in slice_records))

    def decode_record(self, record: ConsumerRecord, partition: int, offset: int) -> Event:
        """Return the event with this identity; raise `InvalidRecordError` with the reason."""
        size_bytes = len(record.value)
        if size_bytes > self._record_bytes_max:
            raise codec.InvalidRecordError(
                f"the record has {size_bytes} bytes, the limit is {self._record_bytes_max}"
            )
        value = self._decoder.decode(record.value)
        return Event(value, codec.epoch_ms(self._time_of(value)), partition, offset)

    def decode(
        self, slice_records: Sequence[ConsumerRecord], watermark_ms: int, now_ms: int = codec.LATEST_MS
    ) -> DecodedSlice:
        """Decode records of one source partition.

        Args:
            slice_records: The records, in order.
            watermark_ms: The partition's watermark before them.
            now_ms: The wall time; by default later than all records, as for an archive.
        """
        events, late, dead_letters = [], [], []
        lateness_ms = self.source.lateness_ms
        # No time up to this one is ahead of any record of the slice, or of this worker.
        written_ms = min([record.timestamp for record in slice_records], default=now_ms)
        checked_ms = min(written_ms, now_ms) + self._clock.tolerance_ms
        offsets = [(record.partition, record.offset) for record in slice_records]
        for record, event in zip(slice_records, self._decode_each(slice_records, offsets), strict=True):
            if isinstance(event, Exception):
                dead_letters.append(codec.letter_of(SERVICE, record, event))
                continue
            time_ms = event if isinstance(event, int) else event.time_ms
            if time_ms > checked_ms and (fault := self._clock.fault(time_ms, record, now_ms)):
                dead_letters.append(codec.letter_of(SERVICE, record, fault))
            elif isinstance(event, int):
                watermark_ms = max(watermark_ms, event)
            elif event.time_ms <= watermark_ms - lateness_ms:
                late.append(record)
            else:
                events.append((record, event))
                if event.time_ms > watermark_ms:
                    watermark_ms = event.time_ms - 1
        if slice_records:
            partition = slice_records[0].partition
            self.watermarks_ms[partition] = max(self.watermarks_ms.get(partition, NEVER), watermark_ms)
        return DecodedSlice(events, late, dead_letters, watermark_ms)

    def decode_forwarded(
        self,
        slice_records: Sequence[ConsumerRecord],
        watermark_ms: int,
        now_ms: int = codec.LATEST_MS,
    ) -> DecodedSlice:
        """Decode records of an internal partition, given its watermark before them.

        Only a heartbeat of all source partitions moves it. One that is too far ahead was not written by a
        features process: it moves nothing.
        """
        events, dead_letters = [], []
        sources = [source_of(record.headers) for record in slice_records]
        offsets = [source or _UNKNOWN for source in sources]
        decoded = self._decode_each(slice_records, offsets)
        for record, source, event in zip(slice_records, sources, decoded, strict=True):
            is_of_all = record.value is None and ALL_SOURCES in record.headers
            if source is None and not is_of_all:
                reason = f"the header {SOURCE_HEADER} is missing"
                dead_letters.append(codec.dead_letter(SERVICE, record, reason))
            elif isinstance(event, Exception):
                dead_letters.append(codec.letter_of(SERVICE, record, event))
            elif isinstance(event, Event):
                events.append((record, event))
            elif is_of_all:  # a heartbeat of one source partition is of an earlier version
                if fault := self._clock.fault(event, record, now_ms):
                    dead_letters.append(codec.letter_of(SERVICE, record, fault))
                else:
                    watermark_ms = max(watermark_ms, event)
        return DecodedSlice(events, [], dead_letters, watermark_ms)

    def _decode_each(
        self, slice_records: Sequence[ConsumerRecord], offsets: Sequence[SourceOffset]
    ) -> Sequence[_Decoded]:
        """Return for each record its event, the error if it is invalid, or the watermark of a heartbeat."""
        given = [record.value for record in slice_records if record.value is not None]
        if max(map(len, given), default=0) > self._record_bytes_max:
            return self._decode_one_by_one(slice_records, offsets)
        try:
            values = self._decoder.decode_all(given)
            times_ms = codec.all_epoch_ms(map(self._time_of, values))
            if len(values) == len(offsets):  # as mostly: no heartbeat
                return list(map(Event, values, times_ms, *zip(*offsets, strict=True)))
            events = zip(values, times_ms, strict=True)
            return [
                _heartbeat_ms(record) if record.value is None else Event(*next(events), *offset)
                for record, offset in zip(slice_records, offsets, strict=True)
            ]
        except Exception as error:  # of one record, or it is raised again
            if is_outage(error):
                raise
            return self._decode_one_by_one(slice_records, offsets)

    def _decode_one_by_one(
        self, slice_records: Sequence[ConsumerRecord], offsets: Sequence[SourceOffset]
    ) -> Sequence[_Decoded]:
        """Do the same as `_decode_each` when some records are invalid."""
        decoded: list[_Decoded] = []
        for record, offset in zip(slice_records, offsets, strict=True):
            try:
                heartbeat = record.value is None
                decoded.append(_heartbeat_ms(record) if heartbeat else self.decode_record(record, *offset))
            except Exception as error:  # of this record alone, or it is raised again
                if is_outage(error):
                    raise
                decoded.append(error)
        return decoded


def source_decoder(plan: FeaturePlan, topic: str, settings: Settings) -> SourceDecoder:
    """Return the decoder of a source topic, for all views that the plan has of it."""
    views = plan.by_topic()[topic]
    source = views[0].source
    assert source is not None, "only stream views have a topic"
    registry = schema_registry_client.connect(settings)
    return SourceDecoder(
        source,
        settings.record_bytes_max,
        registry,
        field_ranges.of_views(views),
        EventClock(SERVICE, settings.event_ahead_seconds_max),
    )


def source_header(partition: int, offset: int) -> tuple[str, bytes]:
    """Return the header that names the source record of a forwarded record."""
    return (SOURCE_HEADER, b"%d:%d" % (partition, offset))


def source_of(headers: codec.Headers) -> SourceOffset | None:
    """Return partition and offset of the source record; None without that header, or with impossible ones."""
    for name, value in headers:
        if name == SOURCE_HEADER and (found := _SOURCE.fullmatch(value or b"")):
            partition, offset = int(found[1]), int(found[2])
            if partition <= codec.INT32_RANGE.high and offset <= codec.INT64_RANGE.high:
                return partition, offset
    return None


def _heartbeat_ms(record: ConsumerRecord) -> int | codec.InvalidRecordError:
    """Return `NEVER` for a tombstone of an application, which moves no watermark."""
    try:
        watermark_ms = codec.watermark_of(record.headers)
    except codec.InvalidRecordError as error:
        return error
    return NEVER if watermark_ms is None else watermark_ms
