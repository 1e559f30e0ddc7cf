"""Records of a schema registry: what is read of them, why one is refused, and when the registry is asked."""

import asyncio
import datetime as dt
import io
import json
import math
import re
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import codec, registered_codec, schemas
from streams.codec import InvalidRecordError
from streams.registered_codec import Encoder, RegisteredDecoder
from streams.schemas import Encoding, Schema, SchemaRegistryUnavailableError

FIELDS = codec.parse_ddl(
    "ride string not null, at timestamp not null, km double not null, hour int not null, "
    "paid boolean, note string"
)
AT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
RIDE = {"ride": "r1", "at": AT, "km": 4.5, "hour": 9, "paid": None, "note": "späť"}


class Held:
    """Schemas by id; counts what it is asked, and may be away."""

    def __init__(self, **by_id: Schema):
        self.by_id = {int(name[1:]): schema for name, schema in by_id.items()}
        self.asked: list[int] = []
        self.away = False

    def schema(self, schema_id):
        if self.away:
            raise SchemaRegistryUnavailableError("away")
        self.asked.append(schema_id)
        return self.by_id.get(schema_id)

    def latest(self, subject):
        schema_id = max(self.by_id, default=0)
        return schema_id and schemas.RegisteredSchema(schema_id, 1, self.by_id[schema_id])

    def register(self, subject, schema):
        self.by_id[len(self.by_id) + 1] = schema


def avro(*columns: tuple[str, Any], name="Ride") -> Schema:
    fields = [{"name": column, "type": kind} for column, kind in columns]
    return Schema("AVRO", json.dumps({"type": "record", "name": name, "fields": fields}))


def written(schema: Schema, record: dict[str, Any], schema_id: int = 1) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(json.loads(schema.text)), record)
    return b"\0" + schema_id.to_bytes(4) + stream.getvalue()


def decoder(registry: Held, encoding=Encoding.AVRO, clock=lambda: 0.0) -> RegisteredDecoder:
    return RegisteredDecoder(FIELDS, encoding, registry, clock)


THEIRS = avro(
    ("extra", {"type": "array", "items": "int"}),
    ("hour", "int"),
    ("km", "float"),
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("ride", {"type": "enum", "name": "Kind", "symbols": ["r1", "r2"]}),
)


def test_a_writer_s_schema_is_read_by_the_declared_view():
    """Fields in another order, narrower numbers, an enumeration, one field more, two that may lack."""
    event = decoder(Held(s1=THEIRS)).decode(written(THEIRS, RIDE | {"extra": [1]}))
    assert (event.ride, event.at, event.km, event.hour) == ("r1", AT, 4.5, 9)
    assert (event.paid, event.note) == (None, None)


@given(
    st.fixed_dictionaries(
        {
            "ride": st.text(),
            "at": st.datetimes(timezones=st.just(dt.UTC)),
            "km": st.floats(allow_nan=False, allow_infinity=False),  # JSON has neither
            "hour": st.integers(-(2**63), 2**63 - 1),
            "paid": st.none() | st.booleans(),
            "note": st.none() | st.text(),
        }
    ),
    st.sampled_from([Encoding.AVRO, Encoding.JSON_SCHEMA]),
)
def test_what_is_written_by_the_declared_schema_is_read_back(ride, encoding):
    registry = Held(s7=schemas.declared_schema(encoding, "Ride", FIELDS))
    encoder = Encoder(encoding, registry, "rides-value")
    encoder.prepare()
    reader = decoder(registry, encoding)
    event = reader.struct(**ride)
    assert msgspec.structs.asdict(reader.decode(encoder.encode(event))) == msgspec.structs.asdict(event)


@pytest.mark.parametrize(
    ("schema", "record", "reason"),
    [
        (
            avro(("ride", "string"), ("km", "double")),
            {"ride": "r", "km": 1.0},
            "schema 1 does not have the declared field 'at'",
        ),
        (
            avro(
                *[
                    (name, kind)
                    for name, kind in [("ride", "string"), ("at", "long"), ("km", "double"), ("hour", "int")]
                ]
            ),
            {"ride": "r", "at": 5, "km": 1.0, "hour": 1},
            "Expected `datetime`, got `int` - at `$.at`",
        ),
        (
            avro(("ride", "string"), ("at", "string"), ("km", ["null", "double"]), ("hour", "int")),
            {"ride": "r", "at": "2026-01-01T00:00:00Z", "km": None, "hour": 1},
            "Expected `float`, got `null` - at `$.km`",
        ),
        (Schema("PROTOBUF", "message M {}"), None, "schema 1 is PROTOBUF, but AVRO is declared"),
        (
            Schema("AVRO", '"string"'),
            None,
            "schema 1 cannot be read: ValueError('the schema is not a record')",
        ),
        (Schema("AVRO", "{}", has_references=True), None, "schema 1 has references to other schemas"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(schema, record, reason):
    raw = b"\0\0\0\0\1" if record is None else written(schema, record)
    with pytest.raises(InvalidRecordError) as error:
        decoder(Held(s1=schema)).decode(raw)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "the record has no value"),
        (b"", "the record begins with b''"),
        (b'{"ride": "r1"}', "the record begins with b'{\"rid'"),
        (b"\0\0\0\0\1", "the record does not fit schema 1"),
        (written(THEIRS, RIDE | {"extra": []}) + b"xy", "2 bytes are left"),
        (written(THEIRS, RIDE | {"extra": []})[:-3], "the record does not fit schema 1"),
        (b"\0\0\0\0\x09x", "the schema registry has no schema 9"),
    ],
)
def test_bytes_that_are_no_such_record_are_refused(raw, reason):
    with pytest.raises(InvalidRecordError) as error:
        decoder(Held(s1=THEIRS)).decode(raw)
    assert reason in str(error.value)


@given(st.binary(max_size=60))
def test_no_bytes_at_all_raise_anything_else(raw):
    subject = decoder(Held(s1=THEIRS))
    for value in (raw, b"\0\0\0\0\1" + raw):
        try:
            subject.decode(value)
        except InvalidRecordError:
            continue


def test_the_registry_is_asked_once_for_a_schema_and_seldom_for_one_that_it_does_not_know():
    now, registry = [0.0], Held(s1=THEIRS)
    subject = decoder(registry, clock=lambda: now[0])
    good, unknown = written(THEIRS, RIDE | {"extra": []}), b"\0\0\0\0\2rest"
    assert sorted(subject.unknown([good, None, b"{", unknown])) == [1, 2]
    for _ in range(3):
        subject.decode(good)
        with pytest.raises(InvalidRecordError):
            subject.decode(unknown)
    assert (registry.asked, subject.unknown([good, unknown])) == ([1, 2], [])

    now[0] += registered_codec.UNKNOWN_SECONDS
    registry.by_id[2] = THEIRS
    assert subject.unknown([good, unknown]) == [2]
    assert subject.decode(written(THEIRS, RIDE | {"extra": []}, 2)).ride == "r1"


def test_an_id_is_not_taken_for_unknown_while_the_registry_is_away():
    registry = Held(s1=THEIRS)
    subject, raw = decoder(registry), written(THEIRS, RIDE | {"extra": []})
    registry.away = True
    with pytest.raises(SchemaRegistryUnavailableError):
        subject.decode(raw)
    registry.away = False
    assert subject.decode(raw).ride == "r1"
    registry.away = True
    assert subject.decode(raw).ride == "r1"  # what is known needs no registry


def test_one_slice_looks_up_the_commonest_ids_and_refuses_the_rest(monkeypatch):
    """Ids that are garbage do not hold up the slice, nor do they block the loop while it is decoded."""
    monkeypatch.setattr(registered_codec, "KEPT_MAX", 3)
    registry = Held(s1=THEIRS, s2=THEIRS)
    subject, good = decoder(registry), written(THEIRS, RIDE | {"extra": []})
    garbage = [b"\0" + schema_id.to_bytes(4) + b"x" for schema_id in range(100, 110)]
    values = [*garbage, good, good, written(THEIRS, RIDE | {"extra": []}, 2), garbage[0], good]
    asyncio.run(registered_codec.learn(subject, values))
    assert (len(registry.asked), registry.asked[0]) == (3, 1)
    subject.decode(good)
    for raw in garbage:
        with pytest.raises(InvalidRecordError, match="has no schema"):
            subject.decode(raw)
    assert len(registry.asked) == 3


def test_schemas_of_the_slice_are_the_last_to_make_room(monkeypatch):
    monkeypatch.setattr(registered_codec, "KEPT_MAX", 2)
    registry = Held(s1=THEIRS, s2=THEIRS, s3=THEIRS)
    subject = decoder(registry)
    one, two, three = (written(THEIRS, RIDE | {"extra": []}, schema_id) for schema_id in (1, 2, 3))
    asyncio.run(registered_codec.learn(subject, [one, two]))
    asyncio.run(registered_codec.learn(subject, [one, three]))
    subject.decode_all([one, three])
    assert sorted(registry.asked) == [1, 2, 3]


FLOATS = avro(
    ("ride", "string"),
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("km", "double"),
    ("hour", "int"),
    ("fee", ["null", "double"]),
)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"km": math.nan}, "got `null` - at `$.km`"),
        ({"km": math.inf}, "at `$.km`"),
        ({"fee": -math.inf}, "at `$.fee`"),
        ({"fee": 1e39}, "at `$.fee`"),
        ({"hour": 2**31 - 1}, "at `$.hour`"),
    ],
)
def test_number_out_of_range_is_refused_with_its_field(values, reason):
    fields = (*FIELDS, codec.Field("fee", codec.FieldType.FLOAT, nullable=True))
    ranges = {"fee": codec.FLOAT32_RANGE, "hour": codec.NumberRange(0, 1000)}
    subject = RegisteredDecoder(fields, Encoding.AVRO, Held(s1=FLOATS), ranges=ranges)
    with pytest.raises(InvalidRecordError, match=re.escape(reason)):
        subject.decode(written(FLOATS, RIDE | {"fee": None} | values))


def test_nan_of_a_nullable_field_is_null():
    fields = (*FIELDS, codec.Field("fee", codec.FieldType.FLOAT, nullable=True))
    subject = RegisteredDecoder(fields, Encoding.AVRO, Held(s1=FLOATS))
    assert subject.decode(written(FLOATS, RIDE | {"fee": math.nan})).fee is None


def test_schemas_beyond_the_bound_make_room(monkeypatch):
    monkeypatch.setattr(registered_codec, "KEPT_MAX", 2)
    registry = Held(s1=THEIRS, s2=THEIRS, s3=THEIRS)
    subject = decoder(registry)
    for schema_id in (1, 2, 3, 3, 1):
        subject.decode(written(THEIRS, RIDE | {"extra": []}, schema_id))
    assert registry.asked == [1, 2, 3, 1]


def test_plain_json_needs_no_registry_and_what_is_not_plain_does():
    plain = registered_codec.decoder_of("rides", FIELDS, Encoding.JSON, None)
    assert plain.decode(msgspec.json.encode(RIDE)).ride == "r1"
    with pytest.raises(codec.SchemaError, match="rides are avro: set DRIFTLINE_SCHEMA_REGISTRY_URL to"):
        registered_codec.decoder_of("rides", FIELDS, Encoding.AVRO, None)
