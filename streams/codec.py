"""Encoding of application records: strict decoders of declared schemas, heartbeats, repeats, dead letters."""

import dataclasses
import datetime as dt
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec

from streams import json_decoder, records
from streams.defects import reason_of
from streams.outages import is_outage

HEARTBEAT_HEADER = "driftline-watermark-ms"
"""Header of a record without a value: no event up to this time will follow in this partition."""
REPLAYED_FROM_HEADER = "driftline-replayed-from"
"""Header of a replayed dead letter: ``topic/partition/offset`` of the record that failed."""
REPLAYS_HEADER = "driftline-replays"
"""Header of a replayed dead letter: how often the record has been replayed, including this time."""
REPLAY_MARK_HEADER = "driftline-replay-mark"
"""Header of a record without a value among the dead letters: a `records.ReplayMark`."""
HTTP_HEADER = "driftline-http"
"""Header of a label that came over HTTP: its event time is not that of the topic's stream."""
TRACEPARENT_HEADER = "traceparent"
"""Header of W3C trace context: ``version-trace-parent-flags``, in hexadecimal digits."""
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE_HEADER = "tracestate"
_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,512}")
_WATERMARK = re.compile(rb"-?[0-9]{1,15}")
_SHOWN_BYTES_MAX = 40

ID_CHARACTERS_MAX = 512
"""Maximum length of the id of a request or a label. A prediction has it as key and in its value, and must fit
into a record."""
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MILLISECOND = dt.timedelta(milliseconds=1)
EARLIEST_MS = -62_135_596_800_000
"""The start of the year 1, the earliest event time."""
LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, the latest event time."""

Headers = Sequence[tuple[str, bytes | None]]
"""Names may be empty or repeated, and values may be null: any application may write to a topic."""


InvalidRecordError = json_decoder.InvalidRecordError


class KafkaRecord(Protocol):
    """The fields of a consumed record that are used, of kafka-python or aiokafka."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


R = TypeVar("R", bound=KafkaRecord)


class SchemaError(ValueError):
    """A declared schema cannot be read."""


class FieldType(StrEnum):
    """The types of fields of application records."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    """RFC 3339 with an offset, as in ``2013-07-01T16:05:00Z``."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a declared schema."""

    name: str
    type: FieldType
    nullable: bool = False
    characters_max: int | None = None
    """Maximum length of a string; None: only the limit of the record."""


@dataclasses.dataclass(frozen=True)
class NumberRange:
    """The numbers that a field may have, both ends included."""

    low: float
    high: float


INT32_RANGE = NumberRange(-(2**31), 2**31 - 1)
INT64_RANGE = NumberRange(-(2**63), 2**63 - 1)
EXACT_RANGE = NumberRange(-(2**53), 2**53)
"""The integers that a double holds exactly."""
FLOAT32_RANGE = NumberRange(-3.4028234663852886e38, 3.4028234663852886e38)
DOUBLE_RANGE = NumberRange(-sys.float_info.max, sys.float_info.max)
"""All doubles but infinity."""
MAGNITUDE_MAX = 1e60
"""Largest absolute value of a label or a score: its loss is its square, and the variance of losses is the
square of that. Both must be finite."""
Ranges = Mapping[str, NumberRange]
"""Ranges by field; a field without one may have all numbers of its type."""

_PYTHON_TYPES: Mapping[FieldType, Any] = {
    FieldType.STRING: str,
    FieldType.INT: Annotated[int, msgspec.Meta(ge=int(INT64_RANGE.low), le=int(INT64_RANGE.high))],
    FieldType.FLOAT: float,
    FieldType.BOOL: bool,
    FieldType.TIMESTAMP: Annotated[dt.datetime, msgspec.Meta(tz=True)],
}
_DDL_TYPES: Mapping[str, FieldType] = {
    "string": FieldType.STRING,
    "int": FieldType.INT,
    "integer": FieldType.INT,
    "long": FieldType.INT,
    "bigint": FieldType.INT,
    "float": FieldType.FLOAT,
    "double": FieldType.FLOAT,
    "boolean": FieldType.BOOL,
    "timestamp": FieldType.TIMESTAMP,
}
_DDL_COLUMN = re.compile(
    r"^\s*(?P<name>\w+)\s*:?\s+(?P<type>\w+)(?P<required>\s+not\s+null)?\s*$", re.IGNORECASE
)


def parse_ddl(text: str) -> tuple[Field, ...]:
    """Parse a schema in Spark's DDL form, as in Feast's ``JsonFormat``.

    >>> parse_ddl("origin string not null, dep_delay double")[1]
    Field(name='dep_delay', type=<FieldType.FLOAT: 'float'>, nullable=True)
    """
    fields = []
    for column in text.split(","):
        match = _DDL_COLUMN.match(column)
        if match is None or match["type"].lower() not in _DDL_TYPES:
            known = ", ".join(sorted(_DDL_TYPES))
            raise SchemaError(
                f"cannot read column {column.strip()!r}: write 'name type [not null]', type one of {known}"
            )
        fields.append(
            Field(match["name"], _DDL_TYPES[match["type"].lower()], nullable=match["required"] is None)
        )
    return tuple(fields)


class EventDecoder:
    """Decodes JSON records of an application strictly by a declared schema.

    A missing field or a wrong type is an `InvalidRecordError`; unknown fields are ignored, so that producers
    can add fields first. Absent nullable fields are None.
    """

    def __init__(self, fields: Iterable[Field], ranges: Ranges | None = None) -> None:
        """Compile the schema once; decoding then costs about 1 us per record.

        Args:
            fields: The schema.
            ranges: The ranges of numbers that are narrower than their type.
        """
        self.fields = tuple(fields)
        ranges = ranges or {}
        self.struct = _struct(self.fields, ranges)
        # JSON has no infinity; other sources of values may.
        self._floats = [field.name for field in self.fields if field.type is FieldType.FLOAT]
        self._finite_struct = _struct(self.fields, dict.fromkeys(self._floats, DOUBLE_RANGE) | dict(ranges))
        self._json: json_decoder.JsonDecoder[Any] = json_decoder.JsonDecoder(self.struct)

    def decode(self, raw: bytes | None) -> Any:
        """Return a struct with the schema's fields as attributes."""
        return self._json.decode(raw)

    def decode_all(self, raws: Iterable[bytes]) -> list[Any]:
        """Decode many records, at two thirds of the cost; the error does not say which record is invalid."""
        return self._json.decode_all(raws)

    def convert(self, values: dict[str, Any]) -> Any:
        """Check values that are already parsed, such as an Avro record; NaN counts as null."""
        for name in self._floats:
            value = values.get(name)
            if value != value:
                values[name] = None
        try:
            return msgspec.convert(values, self._finite_struct, strict=True)
        except msgspec.ValidationError as error:
            raise InvalidRecordError(str(error)) from error


def _struct(fields: Iterable[Field], ranges: Ranges) -> type[msgspec.Struct]:
    columns: list[Any] = []
    for field in sorted(fields, key=lambda field: field.nullable):
        kind = _python_type(field, ranges.get(field.name))
        columns.append((field.name, kind | None, None) if field.nullable else (field.name, kind))
    return msgspec.defstruct("Event", columns, kw_only=True, frozen=True, gc=False)


def _python_type(field: Field, numbers: NumberRange | None) -> Any:
    if field.characters_max is not None:
        return Annotated[str, msgspec.Meta(max_length=field.characters_max)]
    if numbers is None:
        return _PYTHON_TYPES[field.type]
    if field.type is FieldType.INT:
        return Annotated[int, msgspec.Meta(ge=int(numbers.low), le=int(numbers.high))]
    return Annotated[float, msgspec.Meta(ge=numbers.low, le=numbers.high)]


def epoch_ms(moment: dt.datetime) -> int:
    """Return the whole milliseconds from the epoch to an aware datetime, exactly.

    Raises `InvalidRecordError` if the year in UTC is not one of 1 to 9999, as of ``0001-01-01T00:00+14:00``:
    no record of ours can have such a time.
    """
    time_ms = (moment - EPOCH) // MILLISECOND
    if not EARLIEST_MS <= time_ms <= LATEST_MS:
        raise InvalidRecordError(f"the time {moment.isoformat()} is before the year 1 or after 9999 in UTC")
    return time_ms


def now_ms() -> int:
    """Return the wall time since the epoch."""
    return time.time_ns() // 1_000_000


def all_epoch_ms(moments: Iterable[dt.datetime]) -> list[int]:
    """Return `epoch_ms` of many datetimes, at two thirds of the cost."""
    epoch, millisecond = EPOCH, MILLISECOND
    times_ms = [(moment - epoch) // millisecond for moment in moments]
    if times_ms and not EARLIEST_MS <= min(times_ms) <= max(times_ms) <= LATEST_MS:
        raise InvalidRecordError("a time is before the year 1 or after 9999 in UTC")
    return times_ms


def heartbeat(watermark_ms: int) -> list[tuple[str, bytes]]:
    """Return the headers of a heartbeat, whose record has no value."""
    return [(HEARTBEAT_HEADER, str(watermark_ms).encode())]


def watermark_of(headers: Headers) -> int | None:
    """Return the watermark of a heartbeat, None if the headers are not those of a heartbeat.

    Raises `InvalidRecordError` for a header that is not a time: it must not move a watermark.
    """
    for name, value in headers:
        if name == HEARTBEAT_HEADER:
            if value is not None and _WATERMARK.fullmatch(value):
                watermark_ms = int(value)
                if EARLIEST_MS <= watermark_ms <= LATEST_MS:
                    return watermark_ms
            shown = "null" if value is None else repr(value[:_SHOWN_BYTES_MAX])
            raise InvalidRecordError(
                f"the header {HEARTBEAT_HEADER} is {shown}: write milliseconds since 1970 in decimal digits"
            )
    return None


def trace_headers(headers: Headers) -> list[tuple[str, bytes]]:
    """Return the headers that propagate a trace; empty without a valid ``traceparent``."""
    found = {name: value for name, value in headers if value is not None and name.startswith("trace")}
    parent = found.get(TRACEPARENT_HEADER, b"")
    if not _TRACEPARENT.fullmatch(parent):
        return []
    state = found.get(_TRACESTATE_HEADER, b"")
    sound = [(_TRACESTATE_HEADER, state)] if _TRACESTATE.fullmatch(state) else []
    return [(TRACEPARENT_HEADER, parent), *sound]


def letter_of(
    service: str, record: KafkaRecord, error: Exception, failed_time_ms: int | None = None
) -> records.DeadLetter:
    """Return the dead letter for an error of decoding; raise the error if it is an outage."""
    if is_outage(error):
        raise error
    if isinstance(error, (InvalidRecordError, *json_decoder.FAULTS)):
        return dead_letter(service, record, json_decoder.reason_of(error), failed_time_ms)
    return dead_letter(service, record, reason_of(error), failed_time_ms, kind="defect")


def split_defects(
    service: str, found: Sequence[R], defects: Mapping[int, str]
) -> tuple[Sequence[R], list[records.DeadLetter]]:
    """Return the records to decode, and the dead letters of the others.

    Args:
        service: The name of the service in the letters.
        found: Records of one partition.
        defects: The reasons by offset; see `streams.slices.Slice.defects`.
    """
    if not defects:
        return found, []
    letters = [
        dead_letter(service, record, defects[record.offset], kind="defect")
        for record in found
        if record.offset in defects
    ]
    return [record for record in found if record.offset not in defects], letters


def dead_letter(
    service: str,
    record: KafkaRecord,
    reason: str,
    failed_time_ms: int | None = None,
    *,
    kind: Literal["invalid", "defect"] = "invalid",
) -> records.DeadLetter:
    """Wrap a complete failed record with the reason; the default wall time is now."""
    return records.DeadLetter(
        service=service,
        reason=reason,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        failed_time_ms=now_ms() if failed_time_ms is None else failed_time_ms,
        headers=list(record.headers),
        kind=kind,
    )
