"""The records of the dead-letter topic. A letter that is too large for it is cut; it is never left out."""

import msgspec

from streams import records

RECORD_OVERHEAD_BYTES = 1024
"""Room for what Kafka adds to a record: its batch's header, lengths, and the key (a topic's name)."""
REASON_CHARACTERS_MAX = 1000
"""Maximum length of the reason of a letter that is cut."""

_decode = records.decoder_of(records.DeadLetter).decode


def encode(letter: records.DeadLetter) -> tuple[bytes, bytes, list[tuple[str, bytes | None]]]:
    """Return the record of a letter: key, value, headers."""
    return letter.topic.encode(), records.encode(letter), []


def cut_value(value: bytes, record_bytes_max: int) -> bytes:
    """Return the value of a letter's record, cut so that the record has at most ``bytes_max`` bytes."""
    return records.encode(cut(_decode(value), record_bytes_max - RECORD_OVERHEAD_BYTES))


def cut(letter: records.DeadLetter, bytes_max: int) -> records.DeadLetter:
    """Return a letter whose encoding has at most ``bytes_max`` bytes, and that says what it was cut from.

    The end of the value is left out first, then the headers, the end of the key, the end of the reason.
    A limit that not even topic and offset fit into is not kept.

    >>> letter = records.DeadLetter(
    ...     service="drift", reason="too large", topic="orders", partition=0, offset=7, key=b"k",
    ...     value=b"v" * 5000, failed_time_ms=0,
    ... )
    >>> shortened = cut(letter, 1000)
    >>> shortened.cut_from_bytes, len(records.encode(shortened)) <= 1000 < len(shortened.value) * 2
    (5001, True)
    """
    if len(records.encode(letter)) <= bytes_max:
        return letter
    shortened = msgspec.structs.replace(
        letter, cut_from_bytes=letter.cut_from_bytes or _size_bytes(letter), value=_start(letter.value, 0)
    )
    if len(records.encode(shortened)) > bytes_max:
        shortened = msgspec.structs.replace(shortened, headers=[])
    if len(records.encode(shortened)) > bytes_max:
        shortened = msgspec.structs.replace(shortened, key=_start(letter.key, bytes_max // 4))
    if len(records.encode(shortened)) > bytes_max:
        shortened = msgspec.structs.replace(shortened, reason=letter.reason[:REASON_CHARACTERS_MAX])
    room_bytes = max(bytes_max - len(records.encode(shortened)), 0)
    return msgspec.structs.replace(shortened, value=_start(letter.value, room_bytes // 4 * 3))


def _size_bytes(letter: records.DeadLetter) -> int:
    headers = sum(len(name.encode()) + len(value or b"") for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers


def _start(raw: bytes | None, length: int) -> bytes | None:
    return None if raw is None else raw[:length]
