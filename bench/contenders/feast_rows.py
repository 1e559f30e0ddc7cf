"""Feast's layout on Redis, for contenders that read the ten features of a user themselves."""

import struct

import mmh3

FIELDS = [struct.pack("<i", mmh3.hash(f"profile:f{number}", signed=True)) for number in range(10)]
_unpack = struct.Struct("<d").unpack_from


def key_of(user_id: str) -> bytes:
    """Lay out an entity key as Feast does: one key; its type string; its value's type string."""
    value = user_id.encode()
    name = b"user_id"
    return struct.pack("<III", 1, 2, len(name)) + name + struct.pack("<II", 2, len(value)) + value + b"bench"


def row_of(values: list[bytes]) -> list[float]:
    """Decode what stands in the `FIELDS` of a user."""
    return [_unpack(value, 1)[0] for value in values]
