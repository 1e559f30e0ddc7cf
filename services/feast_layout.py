"""Feast's own bytes on Redis (version 3 of its entity keys), without Feast.

An entity is a hash. Its key holds the names and values of the join keys and the project; a field is
the murmur3 hash of ``view:feature``; a value is a protobuf ``feast.types.Value``, empty for null; the
field ``_ts:view`` holds the row's event time. Beside them stands a field of our own for each stream
view, which Feast's readers pass over: the *sidecar*.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mmh3

from services.feature_plan import Column, ValueType

Value = float | int | str | bool | None

_U32_PAIR = struct.Struct("<II")
_DOUBLE = struct.Struct("<Bd")
_FLOAT = struct.Struct("<Bf")
_KEY_STRING, _KEY_INT32, _KEY_INT64 = 2, 3, 4
DOUBLE_TAG, DOUBLE_BYTES = 0x29, 9
_STRING_TAG, _INT32_TAG, _INT64_TAG, _FLOAT_TAG, _BOOL_TAG = 0x12, 0x18, 0x20, 0x35, 0x38
_SIDECAR_HEADER = struct.Struct("<BHQ")
_SIDECAR_OFFSET = struct.Struct("<Iq")
_PACK_OFFSET = _SIDECAR_OFFSET.pack
SIDECAR_FORMAT = 2
_SIDECAR_GENERATION = slice(3, 11)


class LayoutError(ValueError):
    """Stored bytes are not in this layout."""


def entity_key_encoder(project: str, join_keys: Sequence[Column]) -> Callable[[Sequence[Any]], bytes]:
    """Return a function from the values of the join keys, in the given order, to the key of the hash."""
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
    places = list(zip(order, encoders, strict=True))
    return lambda values: b"".join([prefix, *(encode(values[index]) for index, encode in places), suffix])


def _key_string(value: str) -> bytes:
    raw = value.encode()
    return _U32_PAIR.pack(_KEY_STRING, len(raw)) + raw


_KEY_ENCODERS: Mapping[ValueType, Callable[[Any], bytes]] = {
    ValueType.STRING: _key_string,
    ValueType.INT32: lambda value: _U32_PAIR.pack(_KEY_INT32, 4) + struct.pack("<i", value),
    ValueType.INT64: lambda value: _U32_PAIR.pack(_KEY_INT64, 8) + struct.pack("<q", value),
}


def feature_field(view: str, feature: str) -> bytes:
    """Name the field of a feature."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    """Name the field of a row's event time."""
    return f"_ts:{view}".encode()


def sidecar_field(view: str) -> bytes:
    """Name the field of what a stream worker remembers."""
    return f"_driftline:{view}".encode()


def encode_value(kind: ValueType, value: Value) -> bytes:
    """Write one feature."""
    if value is None:
        return b""
    return _VALUE_ENCODERS[kind](value)


def _varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF  # negative numbers are two's complement in 64 bits
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _string(value: str) -> bytes:
    raw = value.encode()
    return bytes([_STRING_TAG]) + _varint(len(raw)) + raw


_VALUE_ENCODERS: Mapping[ValueType, Callable[[Any], bytes]] = {
    ValueType.DOUBLE: lambda value: _DOUBLE.pack(DOUBLE_TAG, value),
    ValueType.FLOAT: lambda value: _FLOAT.pack(_FLOAT_TAG, value),
    ValueType.INT32: lambda value: bytes([_INT32_TAG]) + _varint(value),
    ValueType.INT64: lambda value: bytes([_INT64_TAG]) + _varint(value),
    ValueType.BOOL: lambda value: bytes([_BOOL_TAG, bool(value)]),
    ValueType.STRING: _string,
}


def decode_value(raw: bytes | None) -> Value:
    """Read one feature; None for null. `LayoutError` for types that are no scalar."""
    if not raw:
        return None
    tag = raw[0]
    if tag == DOUBLE_TAG:
        return float(_DOUBLE.unpack(raw)[1])
    if tag == _STRING_TAG:
        _, start = _read_varint(raw, 1)
        return raw[start:].decode()
    if tag in (_INT64_TAG, _INT32_TAG):
        value, _ = _read_varint(raw, 1)
        return value - (1 << 64) if value >> 63 else value
    if tag == _FLOAT_TAG:
        return float(_FLOAT.unpack(raw)[1])
    if tag == _BOOL_TAG:
        return raw[1] != 0
    raise LayoutError(f"a value with the tag 0x{tag:02x} is no scalar")


def _read_varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def encode_timestamp(time_ms: int) -> bytes:
    """Write an event time as a protobuf Timestamp, whose parts are left out where they are 0."""
    seconds, milliseconds = divmod(time_ms, 1000)
    written = b"\x08" + _varint(seconds) if seconds else b""
    return written + (b"\x10" + _varint(milliseconds * 1_000_000) if milliseconds else b"")


def decode_timestamp(raw: bytes | None) -> int | None:
    """Read an event time in milliseconds; None where there is no row."""
    if raw is None:
        return None
    parts = {0x08: 0, 0x10: 0}
    position = 0
    while position < len(raw):
        tag = raw[position]
        parts[tag], position = _read_varint(raw, position + 1)
    seconds = parts[0x08]
    return (seconds - (1 << 64) if seconds >> 63 else seconds) * 1000 + parts[0x10] // 1_000_000


def encode_row(kinds: Sequence[ValueType], values: Sequence[Value]) -> bytes:
    """Write several values one after the other, each behind its length."""
    encoded = [encode_value(kind, value) for kind, value in zip(kinds, values, strict=True)]
    return b"".join(len(raw).to_bytes(4, "little") + raw for raw in encoded)


def split_row(raw: bytes) -> list[bytes]:
    """Return the encoded values of a row."""
    values = []
    position = 0
    while position < len(raw):
        end = position + 4 + int.from_bytes(raw[position : position + 4], "little")
        values.append(raw[position + 4 : end])
        position = end
    return values


def encode_sidecar(offsets: Mapping[int, int], state: bytes, generation: int = 0) -> bytes:
    """Write a sidecar: format, generation, the last applied offset by source partition; then the state.

    The generation numbers the builds of a view: what an earlier one has written does not count.
    """
    header = _SIDECAR_HEADER.pack(SIDECAR_FORMAT, len(offsets), generation)
    if len(offsets) == 1:  # as in most views: each of their entities belongs to one partition
        return b"".join([header, *map(_PACK_OFFSET, offsets, offsets.values()), state])
    return b"".join([header, *(_PACK_OFFSET(*item) for item in sorted(offsets.items())), state])


def with_generation(sidecar: bytes, generation: int) -> bytes:
    """Return a sidecar with another generation."""
    place = _SIDECAR_GENERATION
    return b"".join([sidecar[: place.start], generation.to_bytes(8, "little"), sidecar[place.stop :]])


def decode_sidecar(raw: bytes) -> tuple[dict[int, int], bytes]:
    """Read offsets and state of a sidecar; `LayoutError` if it is none."""
    version = sidecar_version(raw)
    return dict(_SIDECAR_OFFSET.iter_unpack(version[_SIDECAR_HEADER.size :])), raw[len(version) :]


def sidecar_generation(raw: bytes) -> int:
    """Return the generation of a sidecar; `LayoutError` if it is none."""
    return int.from_bytes(sidecar_version(raw)[_SIDECAR_GENERATION], "little")


def sidecar_version(raw: bytes) -> bytes:
    """Return all of a sidecar that stands before the state; `LayoutError` if it is none.

    No two states of one entity have the same version.
    """
    try:
        form, count, _ = _SIDECAR_HEADER.unpack_from(raw)
    except struct.error as error:
        raise LayoutError(f"these {len(raw)} bytes are no sidecar: {error}") from error
    if form != SIDECAR_FORMAT:
        raise LayoutError(f"a sidecar of format {form}; known is {SIDECAR_FORMAT}")
    end = _SIDECAR_HEADER.size + count * _SIDECAR_OFFSET.size
    if len(raw) < end:
        raise LayoutError(f"these {len(raw)} bytes are no sidecar: {count} offsets are announced")
    return raw[:end]


def sidecar_state(raw: bytes) -> bytes:
    """Return only the state of a sidecar: all that a reader needs."""
    return raw[len(sidecar_version(raw)) :]
