"""Records in the wire format of Confluent's schema registry: a zero byte, the id of a schema, the payload.

The payload is Avro or JSON as the writer's schema says. Whoever reads has a view of its own, the declared
fields: others are ignored, and a field that is missing or of another type is an `InvalidRecordError`. So
writers may change their schema as they like, as long as what was declared stays.

The libraries are imported, and the registry is asked, when the first record of a schema comes.
"""

import asyncio
import dataclasses
import datetime as dt
import io
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import msgspec

from streams import codec
from streams.codec import Field, FieldType, InvalidRecordError

KEPT_MAX = 1000
"""Schemas of one topic that are kept compiled, and ids that are known to be unknown; a topic has a few."""
UNKNOWN_SECONDS = 30.0
"""After which the registry is asked again for an id that it did not know."""
_HEADER_BYTES = 5

Read = Callable[[bytes], Any]
T = TypeVar("T")


class Encoding(StrEnum):
    """How the values of a topic are written."""

    JSON = "json"
    """As plain JSON, without a registry."""
    JSON_SCHEMA = "json_schema"
    """As JSON behind the id of a JSON Schema."""
    AVRO = "avro"
    """As Avro behind the id of its schema."""

    @property
    def kind(self) -> str:
        """The registry's own name of such schemas."""
        return {Encoding.JSON_SCHEMA: "JSON", Encoding.AVRO: "AVRO"}[self]


class SchemaRegistryUnavailableError(ConnectionError):
    """The schema registry cannot be reached or does not let us in: what needs it has to wait."""


@dataclasses.dataclass(frozen=True)
class Schema:
    """What a registry holds under an id."""

    kind: str
    """``AVRO``, ``JSON`` or another that we cannot read."""
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
        """Add a version to a subject unless it has it already; return why it cannot be, or None."""


class RegisteredDecoder(codec.EventDecoder):
    """Decodes records of a registry by the declared fields; one compiled reader for each writer's schema."""

    def __init__(
        self,
        fields: Iterable[Field],
        encoding: Encoding,
        registry: SchemaRegistry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know no schema yet."""
        super().__init__(fields)
        self._encoding = encoding
        self._registry = registry
        self._clock = clock
        self._readers: dict[int, Read] = {}
        self._unknown: dict[int, float] = {}
        """Ids that the registry did not know, with the time at which it is asked again."""

    def decode(self, raw: bytes | None) -> Any:
        """Return a struct with the declared fields as attributes; ask the registry for a schema that is new.

        Raises `InvalidRecordError`; `SchemaRegistryUnavailableError` where the registry is needed and away.
        """
        if raw is None or len(raw) < _HEADER_BYTES or raw[0]:
            raise InvalidRecordError(_no_header(raw))
        schema_id = int.from_bytes(raw[1:_HEADER_BYTES])
        if schema_id not in self._readers and not self._is_unknown(schema_id):
            self.fetch([schema_id])
        read = self._readers.get(schema_id)
        if read is None:
            raise InvalidRecordError(f"the schema registry knows no schema {schema_id}")
        return read(raw)

    def decode_all(self, raws: Iterable[bytes]) -> list[Any]:
        """Do the same for many; the error does not tell of which one it is."""
        return [self.decode(raw) for raw in raws]

    def unknown(self, values: Iterable[bytes | None]) -> set[int]:
        """Return the ids of schemas that the registry must be asked for before these can be decoded."""
        heads = {value[:_HEADER_BYTES] for value in values if value is not None}
        ids = {int.from_bytes(head[1:]) for head in heads if len(head) == _HEADER_BYTES and not head[0]}
        return {one for one in ids if one not in self._readers and not self._is_unknown(one)}

    def _is_unknown(self, schema_id: int) -> bool:
        """Tell whether the registry did not know an id just now."""
        return self._clock() < self._unknown.get(schema_id, -math.inf)

    def fetch(self, schema_ids: Iterable[int]) -> None:
        """Ask the registry for schemas and compile them; blocks, raises `SchemaRegistryUnavailableError`."""
        for schema_id in schema_ids:
            found = self._registry.schema(schema_id)
            if found is None:
                _keep(self._unknown, schema_id, self._clock() + UNKNOWN_SECONDS)
            else:
                _keep(self._readers, schema_id, self._compiled(schema_id, found))

    def _compiled(self, schema_id: int, schema: Schema) -> Read:
        if schema.kind != self._encoding.kind:
            return _refusing(f"schema {schema_id} is {schema.kind}, and {self._encoding.kind} is declared")
        if schema.has_references:
            return _refusing(f"schema {schema_id} refers to others, which is not supported")
        if self._encoding is Encoding.JSON_SCHEMA:
            return lambda raw: codec.EventDecoder.decode(self, raw[_HEADER_BYTES:])
        return self._avro_reader(schema_id, schema)

    def _avro_reader(self, schema_id: int, schema: Schema) -> Read:
        import fastavro

        try:
            parsed = fastavro.parse_schema(msgspec.json.decode(schema.text))
            written = _avro_types(schema)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it, its records cannot be read
            return _refusing(f"schema {schema_id} cannot be read: {error!r}")
        missing = [field.name for field in self.fields if not field.nullable and field.name not in written]
        if missing:
            return _refusing(f"schema {schema_id} has no field {missing[0]!r}, which is declared")
        decode, convert, struct = fastavro.schemaless_reader, msgspec.convert, self.struct

        def read(raw: bytes) -> Any:
            stream = io.BytesIO(raw)
            stream.seek(_HEADER_BYTES)
            try:
                values = decode(stream, parsed)
            except Exception as error:
                raise InvalidRecordError(f"it does not fit schema {schema_id}: {error!r}") from error
            if stream.tell() != len(raw):
                raise InvalidRecordError(
                    f"it does not fit schema {schema_id}: {len(raw) - stream.tell()} bytes are left"
                )
            try:
                return convert(values, struct)
            except msgspec.ValidationError as error:
                raise InvalidRecordError(str(error)) from error

        return read


def decoder_of(
    topic: str, fields: Sequence[Field], encoding: Encoding, registry: SchemaRegistry | None
) -> codec.EventDecoder:
    """Compile declared fields for a topic's records; raise `SchemaError` if a registry is missing."""
    if encoding is Encoding.JSON:
        return codec.EventDecoder(fields)
    if registry is None:
        raise codec.SchemaError(
            f"the records of {topic} are {encoding}: DRIFTLINE_SCHEMA_REGISTRY_URL must say where schemas are"
        )
    return RegisteredDecoder(fields, encoding, registry)


async def learn(decoder: codec.EventDecoder, values: Iterable[bytes | None]) -> None:
    """Ask the registry for what decoding these needs, beside the event loop; without a registry, nothing.

    Raises `SchemaRegistryUnavailableError`.
    """
    if isinstance(decoder, RegisteredDecoder) and (unknown := decoder.unknown(values)):
        await asyncio.to_thread(decoder.fetch, unknown)


class Encoder:
    """Writes structs of declared fields as the latest schema of a subject says."""

    def __init__(self, encoding: Encoding, registry: SchemaRegistry, subject: str) -> None:
        """Ask nothing yet."""
        self._encoding = encoding
        self._registry = registry
        self._subject = subject
        self._latest: tuple[bytes, Any] | None = None

    def prepare(self) -> None:
        """Ask the registry for the schema, once; blocking.

        Raises `SchemaRegistryUnavailableError`, also for a subject that has no schema of the encoding yet.
        """
        if self._latest is not None:
            return
        found = self._registry.latest(self._subject)
        if found is None or found.schema.kind != self._encoding.kind:
            raise SchemaRegistryUnavailableError(
                f"{self._subject} has no {self._encoding.kind} schema: run 'driftline setup'"
            )
        parsed = None
        if self._encoding is Encoding.AVRO:
            import fastavro

            parsed = fastavro.parse_schema(msgspec.json.decode(found.schema.text))
        self._latest = b"\0" + found.schema_id.to_bytes(4), parsed

    def encode(self, record: msgspec.Struct) -> bytes:
        """Return the record in the wire format; raise `InvalidRecordError` if the schema wants another."""
        assert self._latest is not None, "prepare() first"
        head, parsed = self._latest
        if parsed is None:
            return head + msgspec.json.encode(record)
        import fastavro

        stream = io.BytesIO()
        stream.write(head)
        try:
            fastavro.schemaless_writer(
                stream, parsed, msgspec.to_builtins(record, builtin_types=(dt.datetime,))
            )
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidRecordError(f"it does not fit the schema of {self._subject}: {error}") from error
        return stream.getvalue()


def subject_of(topic: str) -> str:
    """Return the subject of a topic's values, as the registry's clients name it by default."""
    return f"{topic}-value"


def declared_schema(encoding: Encoding, name: str, fields: Sequence[Field]) -> Schema:
    """Return the schema of declared fields, for a subject that has none yet."""
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
    """Tell what of the declared fields records of a schema lack or have otherwise; [] if all is well."""
    if schema.kind != encoding.kind:
        return [f"is {schema.kind}, and {encoding.kind} is declared"]
    try:
        written = _avro_types(schema) if encoding is Encoding.AVRO else _json_types(schema)
    except (ValueError, KeyError, TypeError) as error:
        return [f"cannot be read: {error!r}"]
    readable = _READABLE[encoding]
    faults = []
    for field in fields:
        types = written.get(field.name)
        if types is None and not field.nullable:
            faults.append(f"has no field {field.name!r}")
        elif types is not None and (others := types - readable[field.type] - {"null"}):
            faults.append(f"has {field.name!r} as {', '.join(sorted(others))}, declared is {field.type}")
        elif types is not None and "null" in types and not field.nullable:
            faults.append(f"allows {field.name!r} to be null, declared is that it is not")
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


def _no_header(raw: bytes | None) -> str:
    if raw is None:
        return "the record has no value"
    return f"it begins with {raw[:_HEADER_BYTES]!r}, not with a zero byte and the id of a schema"


def _keep(kept: dict[int, T], schema_id: int, value: T) -> None:
    """Keep a value; what came first makes room."""
    kept[schema_id] = value
    while len(kept) > KEPT_MAX:
        del kept[next(iter(kept))]


def _refusing(reason: str) -> Read:
    def refuse(_: bytes) -> Any:
        raise InvalidRecordError(reason)

    return refuse


def avro_fields(text: str) -> tuple[Field, ...]:
    """Return the fields of an Avro record that can be declared, as Feast's ``AvroFormat`` holds it.

    Raises `SchemaError` for what is no record. Fields of types that features cannot have are left out.
    """
    try:
        written = _avro_types(Schema(Encoding.AVRO.kind, text))
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


def _avro_types(schema: Schema) -> dict[str, set[str]]:
    """Return the types of each field of a record, a logical type in place of the one that carries it."""
    document = msgspec.json.decode(schema.text)
    if not isinstance(document, dict) or document.get("type") != "record":
        raise ValueError("it is no record")
    return {field["name"]: set(_avro_names(field["type"])) for field in document["fields"]}


def _avro_names(kind: Any) -> Iterable[str]:
    if isinstance(kind, list):
        return [name for each in kind for name in _avro_names(each)]
    if isinstance(kind, dict):
        inner = kind["type"]
        return [kind["logicalType"]] if "logicalType" in kind else _avro_names(inner)
    return [str(kind)]


def _json_types(schema: Schema) -> dict[str, set[str]]:
    """Return the types of each property of an object; none where a property is not described."""
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
