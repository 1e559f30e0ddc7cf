"""Keys and records of the alerts topic: notifications and silences. Compaction keeps the latest per key."""

from streams import records
from streams.json_decoder import InvalidRecordError
from streams.records import Notified, Silence

_decode = records.decoder_of(records.AlertRecord).decode
_SILENCE, _NOTIFIED = "silence/", "notified/"


def key_of(record: records.AlertRecord) -> bytes:
    """Return the key of a record; a later record with the same key replaces it."""
    if isinstance(record, Silence):
        return silence_key(record.silence_id)
    return notified_key(record.destination, record.alert.alert_id)


def silence_key(silence_id: str) -> bytes:
    """Return the key of a silence."""
    return f"{_SILENCE}{silence_id}".encode()


def notified_key(destination: str, alert_id: str) -> bytes:
    """Return the key of the notification of a destination about an alert."""
    return f"{_NOTIFIED}{destination}/{alert_id}".encode()


def decoded(value: bytes) -> Notified | Silence | None:
    """Decode a record; return None if it is invalid."""
    try:
        found: Notified | Silence = _decode(value)
    except InvalidRecordError:
        return None
    return found


def silence_id_of(key: bytes) -> str | None:
    """Return the silence id in a key; None for the key of another record."""
    text = key.decode(errors="replace")
    return text.removeprefix(_SILENCE) if text.startswith(_SILENCE) else None
