"""Records that fit no topic."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streams import codec, topics

KEY = b"chaos"
VALUES: dict[str, bytes | None] = {
    "not JSON": b"\xff\xfe garbage",
    "empty": b"",
    "null": b"null",
    "nested": b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "of another form": b'{"id": 7, "version": "one"}',
    "large": b'{"x": "' + b"a" * 500_000 + b'"}',
    "without a value": None,
}
HEARTBEATS = (b"", b"abc", b"-1", b"9" * 5000, b"1700000000000000")


@dataclasses.dataclass(frozen=True)
class Garbage:
    """One record."""

    kind: str
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def made(chance: random.Random, fields: Mapping[str, Any]) -> list[Garbage]:
    """Return one record of each kind, in a random order; some are made of the fields of a valid record."""
    whole = msgspec.json.encode(dict(fields))
    values = VALUES | {
        "cut off": whole[: len(whole) // 2],
        "with trailing bytes": whole + b"}",
        "in an array": b"[" + whole + b"]",
        "in UTF-16": whole.decode().encode("utf-16"),
    }
    beats = {f"heartbeat {beat[:9]!r}": [(codec.HEARTBEAT_HEADER, beat)] for beat in HEARTBEATS}
    found = [Garbage(kind, value) for kind, value in values.items()]
    found += [Garbage(kind, None, headers) for kind, headers in beats.items()]
    chance.shuffle(found)
    return found


def is_letter(record: Garbage, topic: str) -> bool:
    """Tell whether a process must write a dead letter of a record.

    The archive alone reads outcomes, and may not have come to the last ones when the demo ends.
    """
    is_read = not topic.startswith("driftline.") or topic.startswith(topics.predictions(""))
    return is_read and record.value is not None
