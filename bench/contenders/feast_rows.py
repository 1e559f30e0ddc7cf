"""Feast's layout on Redis, for contenders that read the ten features of a user themselves."""

import struct

import mmh3

FIELDS = [struct.pack("<i", mmh3.hash(f"profile:f{number}", signed=True)) for number in range(10)]
_unpack = struct.Struct("<d").unpack_from


def key_of(user_id: str) -> bytes:
    """Return an entity key as Feast encodes it: one key, of type string, with a value of type string."""
    value = user_id.encode()
    name = b"user_id"
    return struct.pack("<III", 1, 2, len(name)) + name + struct.pack("<II", 2, len(value)) + value + b"bench"


def row_of(values: list[bytes]) -> list[float]:
    """Decode the values of a user's `FIELDS`."""
    return [_unpack(value, 1)[0] for value in values]
