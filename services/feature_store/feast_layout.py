"""Feast's byte layout on Redis (version 3 of its entity keys), without importing Feast.

An entity is a hash. Its key holds the names and values of the join keys, and the project. The name of a field
is the murmur3 hash of ``view:feature``; its value is a protobuf ``feast.types.Value``, empty for null. The
field ``_ts:view`` holds the row's event time. For each stream view the hash also has one field of Driftline's
own, the *sidecar*, which Feast's readers ignore.
"""

import dataclasses
import functools
import itertools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mmh3

from services.feature_store.plan import Column, ValueType
from streams.varint import read_varint

Scalar = float | int | str | bytes | bool
Value = Scalar | list[Any] | None
"""All elements of a list have the same type."""

_U32_PAIR = struct.Struct("<II")
_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")
_KEY_STRING, _KEY_INT32, _KEY_INT64 = 2, 3, 4
DOUBLE_TAG, DOUBLE_BYTES = 0x29, 9
_NULL_TAG = 0x98
_NULL_SECONDS = -(2**63)
"""Feast's value of a timestamp that is null."""
_SIDECAR_HEADER = struct.Struct("<BHQI")
_SIDECAR_OFFSET = struct.Struct("<Iq")
_PACK_OFFSET = _SIDECAR_OFFSET.pack
SIDECAR_FORMAT = 3
_SIDECAR_GENERATION, _SIDECAR_DEFINITION = slice(3, 11), slice(11, 15)


class LayoutError(ValueError):
    """Stored bytes do not have this layout."""


def entity_key_encoder(project: str, join_keys: Sequence[Column]) -> Callable[[Sequence[Any]], bytes]:
    """Return a function that encodes the values of the join keys, in the given order, as the hash's key."""
    order = sorted(range(len(join_keys)), key=lambda index: join_keys[index].name)
    names = [join_keys[index].name.encode() for index in order]
    prefix = struct.pack("<I", len(names)) + b"".join(
        _U32_PAIR.pack(_KEY_STRING, len(name)) + name for name in names
    )
    encoders = [_KEY_ENCODERS[join_keys[index].type] for index in order]
    suffix = project.encode()
    if len(order) == 1:
        encode = encoders[0]
        return lambda values: prefix + encode(values[0]) + suffix
    ordered = list(zip(order, encoders, strict=True))
    return lambda values: b"".join([prefix, *(encode(values[index]) for index, encode in ordered), suffix])


def project_of(key: bytes) -> bytes | None:
    """Return the project of an entity's key; None for another key."""
    found = _split_key(key)
    return None if found is None else found[1]


def entity_of(key: bytes) -> dict[str, str | int] | None:
    """Return the join keys of an entity's key with their values; None for another key.

    >>> entity_of(entity_key_encoder("p", [Column("user", ValueType.INT64)])([7]))
    {'user': 7}
    """
    found = _split_key(key)
    if found is None:
        return None
    parts, _ = found
    half = len(parts) // 2
    names, values = [raw.decode(errors="replace") for _, raw in parts[:half]], parts[half:]
    return {
        name: raw.decode(errors="replace")
        if kind == _KEY_STRING
        else int.from_bytes(raw, "little", signed=True)
        for name, (kind, raw) in zip(names, values, strict=True)
    }


def _split_key(key: bytes) -> tuple[list[tuple[int, bytes]], bytes] | None:
    """Return the names and then the values of an entity's key, each with its type; and the project."""
    parts: list[tuple[int, bytes]] = []
    try:
        (count,) = struct.unpack_from("<I", key)
        position = 4
        for _ in range(2 * count):
            kind, size_bytes = _U32_PAIR.unpack_from(key, position)
            start = position + _U32_PAIR.size
            position = start + size_bytes
            if kind not in (_KEY_STRING, _KEY_INT32, _KEY_INT64) or position > len(key):
                return None
            parts.append((kind, key[start:position]))
    except struct.error:
        return None
    return parts, key[position:]


def _key_string(value: str) -> bytes:
    raw = value.encode()
    return _U32_PAIR.pack(_KEY_STRING, len(raw)) + raw


_KEY_ENCODERS: Mapping[ValueType, Callable[[Any], bytes]] = {
    ValueType.STRING: _key_string,
    ValueType.INT32: lambda value: _U32_PAIR.pack(_KEY_INT32, 4) + struct.pack("<i", value),
    ValueType.INT64: lambda value: _U32_PAIR.pack(_KEY_INT64, 8) + struct.pack("<q", value),
}


def feature_field(view: str, feature: str) -> bytes:
    """Return the name of a feature's field."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    """Return the name of the field with a row's event time."""
    return f"_ts:{view}".encode()


def sidecar_field(view: str) -> bytes:
    """Return the name of a stream view's sidecar."""
    return f"_driftline:{view}".encode()


def encode_value(kind: ValueType, value: Value) -> bytes:
    """Encode one feature."""
    if value is None:
        return b""
    tag, encode = _VALUE_ENCODERS[kind]
    return tag + encode(value)


def decode_value(raw: bytes | None) -> Any:
    """Decode one feature, a `Value`; None for null. `LayoutError` for a type that is not in `ValueType`."""
    if not raw or raw[0] == _NULL_TAG:
        return None
    tag, start = read_varint(raw, 0) if raw[0] > 0x7F else (raw[0], 1)
    decode = _VALUE_DECODERS.get(tag)
    if decode is None:
        raise LayoutError(f"the value has the tag 0x{tag:02x}, which is not a type of features")
    return decode(raw, start)


def _varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF  # negative numbers are two's complement in 64 bits
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _delimited(raw: bytes) -> bytes:
    return _varint(len(raw)) + raw


def _read_delimited(raw: bytes, position: int) -> bytes:
    size, start = read_varint(raw, position)
    return raw[start : start + size]


def _read_integer(raw: bytes, position: int) -> int:
    value, _ = read_varint(raw, position)
    return value - (1 << 64) if value >> 63 else value


def _read_seconds(raw: bytes, position: int) -> int | None:
    seconds = _read_integer(raw, position)
    return None if seconds == _NULL_SECONDS else seconds


def _integers(raw: bytes) -> list[int]:
    position, found = 0, []
    while position < len(raw):
        value, position = read_varint(raw, position)
        found.append(value - (1 << 64) if value >> 63 else value)
    return found


@dataclasses.dataclass(frozen=True)
class _WireType:
    """How ``feast.types.Value`` encodes a scalar type, alone and in a list."""

    field: int
    type: int
    """The protobuf wire type: 0 varint, 1 eight bytes, 2 delimited, 5 four bytes."""
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes, int], Scalar | None]
    decode_packed: Callable[[bytes], list[Any]] | None
    """Decodes all elements of a list; None if each element has its own tag."""

    @property
    def list_field(self) -> int:
        return self.field + 10

    def encode_list(self, values: Sequence[Any]) -> bytes:
        if self.decode_packed is None:
            return _delimited(b"".join(b"\x0a" + self.encode(value) for value in values))
        packed = b"".join(map(self.encode, values))
        return _delimited(b"\x0a" + _delimited(packed) if values else b"")

    def decode_list(self, raw: bytes, position: int) -> list[Any]:
        content = _read_delimited(raw, position)
        if self.decode_packed is not None:
            return self.decode_packed(_read_delimited(content, 1)) if content else []
        found, position = [], 0
        while position < len(content):
            size, start = read_varint(content, position + 1)
            found.append(self.decode(content, position + 1))
            position = start + size
        return found


def _fixed(layout: struct.Struct) -> tuple[Callable[[bytes, int], float], Callable[[bytes], list[float]]]:
    return (
        lambda raw, position: layout.unpack_from(raw, position)[0],
        lambda raw: [value for (value,) in layout.iter_unpack(raw)],
    )


_WIRE_TYPES = {
    ValueType.BYTES: _WireType(1, 2, _delimited, _read_delimited, None),
    ValueType.STRING: _WireType(
        2,
        2,
        lambda value: _delimited(value.encode()),
        lambda raw, position: _read_delimited(raw, position).decode(),
        None,
    ),
    ValueType.INT32: _WireType(3, 0, _varint, _read_integer, _integers),
    ValueType.INT64: _WireType(4, 0, _varint, _read_integer, _integers),
    ValueType.DOUBLE: _WireType(5, 1, _DOUBLE.pack, *_fixed(_DOUBLE)),
    ValueType.FLOAT: _WireType(6, 5, _FLOAT.pack, *_fixed(_FLOAT)),
    ValueType.BOOL: _WireType(
        7,
        0,
        lambda value: b"\x01" if value else b"\x00",
        lambda raw, position: raw[position] != 0,
        lambda raw: [byte != 0 for byte in raw],
    ),
    ValueType.UNIX_TIMESTAMP: _WireType(8, 0, _varint, _read_seconds, _integers),
}
_VALUE_ENCODERS: dict[ValueType, tuple[bytes, Callable[[Any], bytes]]] = {}
_VALUE_DECODERS: dict[int, Callable[[bytes, int], Value]] = {}
for _kind, _wire in _WIRE_TYPES.items():
    _VALUE_ENCODERS[_kind] = _varint(_wire.field << 3 | _wire.type), _wire.encode
    _VALUE_ENCODERS[ValueType(f"{_kind}_list")] = _varint(_wire.list_field << 3 | 2), _wire.encode_list
    _VALUE_DECODERS[_wire.field << 3 | _wire.type] = _wire.decode
    _VALUE_DECODERS[_wire.list_field << 3 | 2] = _wire.decode_list


_FRAME_BYTES = 5
_FIXED: Mapping[ValueType, tuple[bytes, str, int]] = {
    kind: ((1 + size_bytes).to_bytes(4, "little") + _VALUE_ENCODERS[kind][0], code, 1 + size_bytes)
    for kind, code, size_bytes in ((ValueType.DOUBLE, "d", 8), (ValueType.FLOAT, "f", 4))
}
"""Types of fixed size: length and tag before each value, struct code, size in bytes with the tag."""


_varint_of_time = functools.lru_cache(4096)(_varint)
"""Rows that are written together share their seconds, and a second has only 1,000 milliseconds."""


def encode_timestamp(time_ms: int) -> bytes:
    """Encode an event time as a protobuf Timestamp, which omits parts that are 0."""
    seconds, milliseconds = divmod(time_ms, 1000)
    written = b"\x08" + _varint_of_time(seconds) if seconds else b""
    return written + (b"\x10" + _varint_of_time(milliseconds * 1_000_000) if milliseconds else b"")


def decode_timestamp(raw: bytes | None) -> int | None:
    """Decode an event time to milliseconds; None if there is no row."""
    if raw is None:
        return None
    parts = {0x08: 0, 0x10: 0}
    position = 0
    while position < len(raw):
        tag = raw[position]
        parts[tag], position = read_varint(raw, position + 1)
    seconds = parts[0x08]
    return (seconds - (1 << 64) if seconds >> 63 else seconds) * 1000 + parts[0x10] // 1_000_000


class RowFormat:
    """Rows of values with known types: each value follows its length, which is 0 for null."""

    def __init__(self, kinds: Sequence[ValueType]) -> None:
        """Prepare what is the same for every row."""
        self._kinds = tuple(kinds)
        self._is_fixed = set(kinds) <= _FIXED.keys()
        fixed = [_FIXED[kind] for kind in kinds] if self._is_fixed else []
        # One call for all values takes a seventh of the time of one call per value.
        self._whole = struct.Struct("<" + "".join(f"{_FRAME_BYTES}s{code}" for _, code, _ in fixed))
        self._arguments = list(itertools.chain.from_iterable((frame, 0.0) for frame, _, _ in fixed))
        self._values = struct.Struct("<" + "".join(f"{_FRAME_BYTES}x{code}" for _, code, _ in fixed))
        self._encoded = struct.Struct("<" + "".join(f"4x{size_bytes}s" for _, _, size_bytes in fixed))

    def encode(self, values: Sequence[Value]) -> bytes:
        """Encode a row."""
        if not self._is_fixed:
            return self._encode_one_by_one(values)
        arguments = self._arguments.copy()
        arguments[1::2] = values
        try:
            return self._whole.pack(*arguments)
        except struct.error:  # a value is None
            return self._encode_one_by_one(values)

    def _encode_one_by_one(self, values: Sequence[Value]) -> bytes:
        encoded = [encode_value(kind, value) for kind, value in zip(self._kinds, values, strict=True)]
        return b"".join([len(raw).to_bytes(4, "little") + raw for raw in encoded])

    def split(self, raw: bytes) -> Sequence[bytes]:
        """Return the encoded values of a row."""
        return self._encoded.unpack(raw) if self._is_whole(raw) else split_row(raw)

    def decode(self, raw: bytes) -> Sequence[Any]:
        """Return the values of a row, each a `Value`."""
        return self._values.unpack(raw) if self._is_whole(raw) else [*map(decode_value, split_row(raw))]

    def _is_whole(self, raw: bytes) -> bool:
        return self._is_fixed and len(raw) == self._whole.size  # a row with a null is shorter


def split_row(raw: bytes) -> list[bytes]:
    """Return the encoded values of a row."""
    values = []
    position = 0
    while position < len(raw):
        end = position + 4 + int.from_bytes(raw[position : position + 4], "little")
        values.append(raw[position + 4 : end])
        position = end
    return values


def encode_sidecar(
    offsets: Mapping[int, int], state: bytes, generation: int = 0, definition: int = 0
) -> bytes:
    """Encode a sidecar.

    Args:
        offsets: The last applied offset of each source partition.
        state: The entity's.
        generation: Numbers the builds of a view; sidecars of earlier builds are ignored.
        definition: `View.definition`; readers ignore sidecars of another one.
    """
    header = _SIDECAR_HEADER.pack(SIDECAR_FORMAT, len(offsets), generation, definition)
    if len(offsets) == 1:  # most views: each of their entities belongs to one partition
        return b"".join([header, *map(_PACK_OFFSET, offsets, offsets.values()), state])
    return b"".join([header, *(_PACK_OFFSET(*item) for item in sorted(offsets.items())), state])


def decode_sidecar(raw: bytes) -> tuple[dict[int, int], bytes]:
    """Return offsets and state of a sidecar; `LayoutError` if it is not one."""
    version = sidecar_version(raw)
    return dict(_SIDECAR_OFFSET.iter_unpack(version[_SIDECAR_HEADER.size :])), raw[len(version) :]


def sidecar_generation(raw: bytes) -> int:
    """Return the generation of a sidecar; `LayoutError` if it is not one."""
    return int.from_bytes(sidecar_version(raw)[_SIDECAR_GENERATION], "little")


def sidecar_version(raw: bytes) -> bytes:
    """Return all bytes of a sidecar before the state; `LayoutError` if it is not one.

    Two states of one entity never have the same version.
    """
    try:
        form, count, _, _ = _SIDECAR_HEADER.unpack_from(raw)
    except struct.error as error:
        raise LayoutError(f"{len(raw)} bytes are not a sidecar: {error}") from error
    if form != SIDECAR_FORMAT:
        raise LayoutError(f"the sidecar has format {form}; only format {SIDECAR_FORMAT} can be read")
    size_bytes = _SIDECAR_HEADER.size + count * _SIDECAR_OFFSET.size
    if len(raw) < size_bytes:
        raise LayoutError(f"{len(raw)} bytes are not a sidecar: {count} offsets need {size_bytes}")
    return raw[:size_bytes]


def sidecar_state(raw: bytes, definition: int) -> bytes:
    """Return the state of a sidecar, which is all that a reader needs.

    Raises `LayoutError` if the bytes are no sidecar, or one that another definition of the view has written.
    """
    version = sidecar_version(raw)
    if (found := int.from_bytes(version[_SIDECAR_DEFINITION], "little")) != definition:
        raise LayoutError(f"the sidecar is of definition {found:08x}, not of {definition:08x}")
    return raw[len(version) :]
