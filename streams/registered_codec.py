"""Records in the wire format of Confluent's schema registry: a zero byte, the id of a schema, the payload.

The payload is Avro or JSON, by the writer's schema. A reader uses its declared fields only: other fields are
ignored, and a missing field or a wrong type is an `InvalidRecordError`. So writers may change their schema as
long as the declared fields stay.

The libraries are imported, and the registry is called, at the first record of a schema.
"""

import asyncio
import datetime as dt
import io
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import msgspec

from streams import codec
from streams.codec import Field, InvalidRecordError
from streams.schemas import Encoding, Schema, SchemaRegistry, SchemaRegistryUnavailableError, avro_types

KEPT_MAX = 1000
"""Maximum compiled schemas per topic, and maximum ids that one slice looks up; a topic has a few."""
UNKNOWN_MAX = 100_000
"""Maximum ids that are remembered as unknown; about 10 MB."""
UNKNOWN_SECONDS = 30.0
"""Time after which the registry is called again for an id that it did not know."""
_HEADER_BYTES = 5

Read = Callable[[bytes], Any]


class RegisteredDecoder(codec.EventDecoder):
    """Decodes registered records by the declared fields, with a compiled reader for each writer's schema."""

    def __init__(
        self,
        fields: Iterable[Field],
        encoding: Encoding,
        registry: SchemaRegistry,
        clock: Callable[[], float] = time.monotonic,
        ranges: codec.Ranges | None = None,
    ) -> None:
        """Start without any schema."""
        super().__init__(fields, ranges)
        self._encoding = encoding
        self._registry = registry
        self._clock = clock
        self._readers: dict[int, Read] = {}
        self._unknown: dict[int, float] = {}
        """Ids that the registry did not know, with the time at which it is called again."""

    def decode(self, raw: bytes | None) -> Any:
        """Return a struct with the declared fields as attributes; fetch the schema if it is new.

        Raises `InvalidRecordError`, or `SchemaRegistryUnavailableError` if a schema cannot be fetched.
        """
        if raw is None or len(raw) < _HEADER_BYTES or raw[0]:
            raise InvalidRecordError(_no_header(raw))
        schema_id = int.from_bytes(raw[1:_HEADER_BYTES])
        if schema_id not in self._readers and not self._is_unknown(schema_id):
            self.fetch([schema_id])
        read = self._readers.get(schema_id)
        if read is None:
            raise InvalidRecordError(f"the schema registry has no schema {schema_id}")
        return read(raw)

    def decode_all(self, raws: Iterable[bytes]) -> list[Any]:
        """Decode many records; the error does not say which record is invalid."""
        return [self.decode(raw) for raw in raws]

    def unknown(self, values: Iterable[bytes | None]) -> list[int]:
        """Return the ids of the schemas that must be fetched before these values can be decoded.

        There are at most `KEPT_MAX`, the most frequent ones. Others count as unknown for `UNKNOWN_SECONDS`: a
        topic has a few schemas, so these ids are garbage, and each would be one call of the registry.
        """
        heads = Counter(value[:_HEADER_BYTES] for value in values if value is not None)
        ids = [
            int.from_bytes(head[1:])
            for head, _ in heads.most_common()
            if len(head) == _HEADER_BYTES and not head[0]
        ]
        for schema_id in ids:
            if schema_id in self._readers:  # the schemas in use are the last to be removed
                self._readers[schema_id] = self._readers.pop(schema_id)
        missing = [one for one in ids if one not in self._readers and not self._is_unknown(one)]
        retry_seconds = self._clock() + UNKNOWN_SECONDS
        self._unknown = {one: end for one, end in self._unknown.items() if end > self._clock()}
        self._unknown |= dict.fromkeys(missing[KEPT_MAX:], retry_seconds)
        return missing[:KEPT_MAX]

    def _is_unknown(self, schema_id: int) -> bool:
        """Tell whether the registry recently did not know an id."""
        return self._clock() < self._unknown.get(schema_id, -math.inf)

    def fetch(self, schema_ids: Iterable[int]) -> None:
        """Fetch schemas and compile them; blocks, raises `SchemaRegistryUnavailableError`."""
        for schema_id in schema_ids:
            found = self._registry.schema(schema_id)
            if found is None:
                self._unknown[schema_id] = self._clock() + UNKNOWN_SECONDS
                if len(self._unknown) > UNKNOWN_MAX:
                    del self._unknown[next(iter(self._unknown))]
                continue
            self._readers[schema_id] = self._compiled(schema_id, found)
            while len(self._readers) > KEPT_MAX:
                del self._readers[next(iter(self._readers))]

    def _compiled(self, schema_id: int, schema: Schema) -> Read:
        if schema.kind != self._encoding.kind:
            return _refusing(f"schema {schema_id} is {schema.kind}, but {self._encoding.kind} is declared")
        if schema.has_references:
            return _refusing(f"schema {schema_id} has references to other schemas, which are not supported")
        if self._encoding is Encoding.JSON_SCHEMA:
            return lambda raw: codec.EventDecoder.decode(self, raw[_HEADER_BYTES:])
        return self._avro_reader(schema_id, schema)

    def _avro_reader(self, schema_id: int, schema: Schema) -> Read:
        import fastavro

        try:
            parsed = fastavro.parse_schema(msgspec.json.decode(schema.text))
            written = avro_types(schema)
        except Exception as error:  # noqa: BLE001  # whatever the error, its records cannot be read
            return _refusing(f"schema {schema_id} cannot be read: {error!r}")
        missing = [field.name for field in self.fields if not field.nullable and field.name not in written]
        if missing:
            return _refusing(f"schema {schema_id} does not have the declared field {missing[0]!r}")
        decode, convert = fastavro.schemaless_reader, self.convert

        def read(raw: bytes) -> Any:
            stream = io.BytesIO(raw)
            stream.seek(_HEADER_BYTES)
            try:
                values = decode(stream, parsed)
            except Exception as error:
                raise InvalidRecordError(f"the record does not fit schema {schema_id}: {error!r}") from error
            if stream.tell() != len(raw):
                raise InvalidRecordError(
                    f"the record does not fit schema {schema_id}: {len(raw) - stream.tell()} bytes are left"
                )
            return convert(cast("dict[str, Any]", values))

        return read


def decoder_of(
    topic: str,
    fields: Sequence[Field],
    encoding: Encoding,
    registry: SchemaRegistry | None,
    ranges: codec.Ranges | None = None,
) -> codec.EventDecoder:
    """Compile declared fields for a topic's records; raise `SchemaError` if a registry is missing."""
    if encoding is Encoding.JSON:
        return codec.EventDecoder(fields, ranges)
    if registry is None:
        raise codec.SchemaError(
            f"the records of {topic} are {encoding}: set DRIFTLINE_SCHEMA_REGISTRY_URL to the schema registry"
        )
    return RegisteredDecoder(fields, encoding, registry, ranges=ranges)


async def learn(decoder: codec.EventDecoder, values: Iterable[bytes | None]) -> None:
    """Fetch the schemas that these values need in a thread; do nothing without a registry.

    Raises `SchemaRegistryUnavailableError`.
    """
    if isinstance(decoder, RegisteredDecoder) and (unknown := decoder.unknown(values)):
        await asyncio.to_thread(decoder.fetch, unknown)


class Encoder:
    """Encodes structs of declared fields by the latest schema of a subject."""

    def __init__(self, encoding: Encoding, registry: SchemaRegistry, subject: str) -> None:
        """Take the registry; nothing is fetched before `prepare`."""
        self._encoding = encoding
        self._registry = registry
        self._subject = subject
        self._latest: tuple[bytes, Any] | None = None

    def prepare(self) -> None:
        """Fetch the schema, once; blocks.

        Raises `SchemaRegistryUnavailableError`, also if the subject has no schema of the encoding yet.
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
        """Return the record in the wire format; raise `InvalidRecordError` if it does not fit the schema."""
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
            raise InvalidRecordError(
                f"the record does not fit the schema of {self._subject}: {error}"
            ) from error
        return stream.getvalue()


def _no_header(raw: bytes | None) -> str:
    if raw is None:
        return "the record has no value"
    return f"the record begins with {raw[:_HEADER_BYTES]!r}, not with a zero byte and the id of a schema"


def _refusing(reason: str) -> Read:
    def refuse(_: bytes) -> Any:
        raise InvalidRecordError(reason)

    return refuse
