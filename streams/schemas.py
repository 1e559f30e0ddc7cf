"""Schemas of a schema registry, and whether one fits the declared fields.

`registered_codec` reads and writes the records.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from streams import codec
from streams.codec import Field, FieldType
from streams.outages import OutageError


class Encoding(StrEnum):
    """The encoding of the values of a topic."""

    JSON = "json"
    """Plain JSON, without a registry."""
    JSON_SCHEMA = "json_schema"
    """JSON after the id of a JSON Schema."""
    AVRO = "avro"
    """Avro after the id of its schema."""

    @property
    def kind(self) -> str:
        """The name of this kind of schema in the registry."""
        return {Encoding.JSON_SCHEMA: "JSON", Encoding.AVRO: "AVRO"}[self]


class SchemaRegistryUnavailableError(OutageError):
    """The schema registry cannot be reached or refuses access: retry later."""


@dataclasses.dataclass(frozen=True)
class Schema:
    """A schema of the registry."""

    kind: str
    """``AVRO``, ``JSON`` or another kind, which cannot be read."""
    text: str
    has_references: bool = False


@dataclasses.dataclass(frozen=True)
class RegisteredSchema:
    """The latest schema of a subject."""

    schema_id: int
    version: int
    schema: Schema


class SchemaRegistry(Protocol):
    """A schema registry; each call blocks, and raises `SchemaRegistryUnavailableError`."""

    def schema(self, schema_id: int) -> Schema | None:
        """Return a schema; None if the registry does not know the id."""

    def latest(self, subject: str) -> RegisteredSchema | None:
        """Return the latest version of a subject; None if there is no such subject."""

    def register(self, subject: str, schema: Schema) -> str | None:
        """Add a version to a subject unless it exists; return the reason if it is refused, else None."""


def subject_of(topic: str) -> str:
    """Return the subject of a topic's values, by the default naming of the registry's clients."""
    return f"{topic}-value"


def declared_schema(encoding: Encoding, name: str, fields: Sequence[Field]) -> Schema:
    """Return a schema of the declared fields, for a subject without one."""
    if encoding is Encoding.JSON_SCHEMA:
        struct = codec.EventDecoder(fields).struct
        (described,) = msgspec.json.schema_components([struct])[1].values()
        return Schema(encoding.kind, msgspec.json.encode({**described, "title": name}).decode())
    columns = [
        {"name": field.name, "type": ["null", _AVRO[field.type]], "default": None}
        if field.nullable
        else {"name": field.name, "type": _AVRO[field.type]}
        for field in fields
    ]
    document = {"type": "record", "name": name, "namespace": "driftline", "fields": columns}
    return Schema(encoding.kind, msgspec.json.encode(document).decode())


def misfits(schema: Schema, encoding: Encoding, fields: Iterable[Field]) -> list[str]:
    """Return a text for each declared field that a schema lacks or has with another type."""
    if schema.kind != encoding.kind:
        return [f"is {schema.kind}, but {encoding.kind} is declared"]
    try:
        written = avro_types(schema) if encoding is Encoding.AVRO else _json_types(schema)
    except (ValueError, KeyError, TypeError) as error:
        return [f"cannot be read: {error!r}"]
    readable = _READABLE[encoding]
    faults = []
    for field in fields:
        types = written.get(field.name)
        if types is None and not field.nullable:
            faults.append(f"has no field {field.name!r}")
        elif types is not None and (others := types - readable[field.type] - {"null"}):
            faults.append(f"has {field.name!r} as {', '.join(sorted(others))}, but {field.type} is declared")
        elif types is not None and "null" in types and not field.nullable:
            faults.append(f"allows {field.name!r} to be null, but it is declared as not nullable")
    return faults


_AVRO: Mapping[FieldType, Any] = {
    FieldType.STRING: "string",
    FieldType.INT: "long",
    FieldType.FLOAT: "double",
    FieldType.BOOL: "boolean",
    FieldType.TIMESTAMP: {"type": "long", "logicalType": "timestamp-micros"},
}
_READABLE: Mapping[Encoding, Mapping[FieldType, frozenset[str]]] = {
    Encoding.AVRO: {
        FieldType.STRING: frozenset({"string", "enum"}),
        FieldType.INT: frozenset({"int", "long"}),
        FieldType.FLOAT: frozenset({"int", "long", "float", "double"}),
        FieldType.BOOL: frozenset({"boolean"}),
        FieldType.TIMESTAMP: frozenset({"timestamp-millis", "timestamp-micros", "string"}),
    },
    Encoding.JSON_SCHEMA: {
        FieldType.STRING: frozenset({"string"}),
        FieldType.INT: frozenset({"integer"}),
        FieldType.FLOAT: frozenset({"integer", "number"}),
        FieldType.BOOL: frozenset({"boolean"}),
        FieldType.TIMESTAMP: frozenset({"string"}),
    },
}


def avro_fields(text: str) -> tuple[Field, ...]:
    """Return the fields of an Avro record schema, as in Feast's ``AvroFormat``.

    Raises `SchemaError` if it is not a record. Fields whose type features cannot have are left out.
    """
    try:
        written = avro_types(Schema(Encoding.AVRO.kind, text))
    except (ValueError, KeyError, TypeError) as error:
        raise codec.SchemaError(f"cannot read the Avro schema: {error!r}") from error
    readable = _READABLE[Encoding.AVRO]
    order = (FieldType.TIMESTAMP, FieldType.STRING, FieldType.BOOL, FieldType.INT, FieldType.FLOAT)
    found = []
    for name, types in written.items():
        plain = types - {"null"}
        kinds = [kind for kind in order if plain and plain <= readable[kind] and plain != {"string"}]
        if plain == {"string"}:
            kinds = [FieldType.STRING]
        if kinds:
            found.append(Field(name, kinds[0], nullable="null" in types))
    return tuple(found)


def avro_types(schema: Schema) -> dict[str, set[str]]:
    """Return the types of each field of a record; a logical type replaces its base type."""
    document = msgspec.json.decode(schema.text)
    if not isinstance(document, dict) or document.get("type") != "record":
        raise ValueError("the schema is not a record")
    return {field["name"]: set(_avro_names(field["type"])) for field in document["fields"]}


def _avro_names(kind: Any) -> Iterable[str]:
    if isinstance(kind, list):
        return [name for each in kind for name in _avro_names(each)]
    if isinstance(kind, dict):
        inner = kind["type"]
        return [kind["logicalType"]] if "logicalType" in kind else _avro_names(inner)
    return [str(kind)]


def _json_types(schema: Schema) -> dict[str, set[str]]:
    """Return the types of each property of an object; none if a property has no description."""
    document = msgspec.json.decode(schema.text)
    required = set(document.get("required", ()))
    return {
        name: set(_json_names(described)) | (set() if name in required else {"null"})
        for name, described in document.get("properties", {}).items()
    }


def _json_names(described: Any) -> Iterable[str]:
    if not isinstance(described, dict):
        return []
    if choices := described.get("anyOf") or described.get("oneOf"):
        return [name for each in choices for name in _json_names(each)]
    kind = described.get("type", [])
    return [kind] if isinstance(kind, str) else kind
