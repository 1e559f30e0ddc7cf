"""Records that could not be processed."""

from typing import Literal

import msgspec

from streams.records.field_types import Int64, TimeMs


class DeadLetter(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A record that could not be processed: the complete record, and the reason.

    Where the complete record does not fit into the dead-letter topic, it is cut: see ``cut_from_bytes``.
    """

    service: str
    reason: str
    topic: str
    partition: Int64
    offset: Int64
    key: bytes | None
    value: bytes | None
    failed_time_ms: TimeMs
    """Wall time."""
    headers: list[tuple[str, bytes | None]] = []
    kind: Literal["invalid", "defect"] = "invalid"
    """``invalid``: the record does not fit its declaration. ``defect``: its processing ended with an
    unexpected error, whose place the reason names."""
    cut_from_bytes: Int64 | None = None
    """Size of key, value and headers of the complete record, if the letter holds only the start of it. The
    complete record is in its topic, as long as the retention there keeps it."""


class ReplayMark(msgspec.Struct, kw_only=True, frozen=True):
    """The state of a replay of dead letters to one partition: ``begun``, then ``arrived`` or ``lost``.

    It is a header of a record without a value in the dead-letter topic, so readers of the letters skip it.
    """

    state: Literal["begun", "arrived", "lost"]
    topic: str
    partition: Int64
    offsets: list[Int64]
    """Offsets of the failed records, in the topic and partition to which they are written again."""
    begun_ms: TimeMs
    """Wall time."""
    end_offset: Int64
    """The end of that partition before the replay: all replayed records are at this offset or later."""
