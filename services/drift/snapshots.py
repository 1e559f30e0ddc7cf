"""The engine's state as one record of a compacted topic: msgpack, compressed. Numbers and names, no code."""

import zlib
from collections.abc import Mapping

import msgspec

from services.drift.engine import State

FORMAT = 2
"""Raised when an old snapshot no longer means the same."""
_COMPRESSION_LEVEL = 1
"""A third of the size for a few milliseconds; higher levels gain little on ids."""


class SnapshotError(ValueError):
    """A snapshot cannot be used. The message says what to do."""


class Snapshot(msgspec.Struct):
    """A state with what its offsets refer to."""

    format: int
    model: str
    label_topic: str
    state: State


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Snapshot)
_FORMAT_DECODER = msgspec.msgpack.Decoder(Mapping[str, msgspec.Raw])


def encode(model: str, label_topic: str, state: State) -> bytes:
    """Return the record's value."""
    return zlib.compress(_ENCODER.encode(Snapshot(FORMAT, model, label_topic, state)), _COMPRESSION_LEVEL)


def decode(raw: bytes, model: str, label_topic: str) -> State:
    """Read a record's value strictly; raise `SnapshotError` if it is of another format, model or topic."""
    try:
        data = zlib.decompress(raw)
        found = msgspec.msgpack.decode(_FORMAT_DECODER.decode(data)["format"])
        if found != FORMAT:
            raise SnapshotError(
                f"the snapshot of {model!r} has format {found}, this version reads {FORMAT}: "
                f"run the version that wrote it, or delete the record to begin anew"
            )
        snapshot = _DECODER.decode(data)
    except (zlib.error, msgspec.DecodeError, KeyError) as error:
        raise SnapshotError(f"the snapshot of {model!r} cannot be read: {error}") from error
    if (snapshot.model, snapshot.label_topic) != (model, label_topic):
        raise SnapshotError(
            f"the snapshot is of {snapshot.model!r} with the labels of {snapshot.label_topic}, "
            f"not of {model!r} with those of {label_topic}: delete the record to begin anew"
        )
    return snapshot.state
