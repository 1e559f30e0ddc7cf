"""The alerts topic: what was told, and which silences hold. Keys and records; compaction keeps the latest."""

import msgspec

from streams import records
from streams.records import Notified, Silence

_decode = records.decoder_of(records.AlertRecord).decode
_SILENCE, _NOTIFIED = "silence/", "notified/"


def key_of(record: records.AlertRecord) -> bytes:
    """Return the key under which a record replaces the one before."""
    if isinstance(record, Silence):
        return silence_key(record.silence_id)
    return notified_key(record.destination, record.alert.alert_id)


def silence_key(silence_id: str) -> bytes:
    """Return the key of a silence."""
    return f"{_SILENCE}{silence_id}".encode()


def notified_key(destination: str, alert_id: str) -> bytes:
    """Return the key of what a destination was told of an alert."""
    return f"{_NOTIFIED}{destination}/{alert_id}".encode()


def decoded(value: bytes) -> Notified | Silence | None:
    """Read a record; None for one that cannot be read."""
    try:
        found: Notified | Silence = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found


def silence_id_of(key: bytes) -> str | None:
    """Return the id of the silence that a key is about; None if it is about another thing."""
    text = key.decode(errors="replace")
    return text.removeprefix(_SILENCE) if text.startswith(_SILENCE) else None
