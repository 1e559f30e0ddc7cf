"""Schemas of a registry: where one does not fit what is declared, and the fields of an Avro schema."""

import json
from typing import Any

import pytest

from streams import codec, schemas
from streams.schemas import Encoding, Schema

FIELDS = codec.parse_ddl(
    "ride string not null, at timestamp not null, km double not null, hour int not null, "
    "paid boolean, note string"
)


def avro(*columns: tuple[str, Any], name="Ride") -> Schema:
    fields = [{"name": column, "type": kind} for column, kind in columns]
    return Schema("AVRO", json.dumps({"type": "record", "name": name, "fields": fields}))


THEIRS = avro(
    ("extra", {"type": "array", "items": "int"}),
    ("hour", "int"),
    ("km", "float"),
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("ride", {"type": "enum", "name": "Kind", "symbols": ["r1", "r2"]}),
)


@pytest.mark.parametrize(
    ("schema", "encoding", "wanted"),
    [
        (THEIRS, Encoding.AVRO, []),
        (
            avro(("ride", "string"), ("at", "long"), ("km", ["null", "double"]), ("note", "int")),
            Encoding.AVRO,
            [
                "has 'at' as long, but timestamp is declared",
                "allows 'km' to be null, but it is declared as not nullable",
                "has no field 'hour'",
                "has 'note' as int, but string is declared",
            ],
        ),
        (schemas.declared_schema(Encoding.JSON_SCHEMA, "Ride", FIELDS), Encoding.JSON_SCHEMA, []),
        (
            Schema(
                "JSON", json.dumps({"properties": {"ride": {"type": "string"}, "km": {"type": "string"}}})
            ),
            Encoding.JSON_SCHEMA,
            [
                "allows 'ride' to be null, but it is declared as not nullable",
                "has no field 'at'",
                "has 'km' as string, but float is declared",
                "has no field 'hour'",
            ],
        ),
        (THEIRS, Encoding.JSON_SCHEMA, ["is AVRO, but JSON is declared"]),
    ],
)
def test_where_a_schema_does_not_fit_what_is_declared_is_told(schema, encoding, wanted):
    assert schemas.misfits(schema, encoding, FIELDS) == wanted


def test_the_fields_of_an_avro_schema_are_those_that_features_can_have():
    """As of Feast's AvroFormat."""
    found = schemas.avro_fields(
        avro(
            ("shop", "string"),
            ("at", {"type": "long", "logicalType": "timestamp-micros"}),
            ("amount", ["null", "float"]),
            ("count", "int"),
            ("card", "boolean"),
            ("lines", {"type": "array", "items": "string"}),
        ).text
    )
    assert found == codec.parse_ddl(
        "shop string not null, at timestamp not null, amount double, count int not null, "
        "card boolean not null"
    )
