"""What Driftline uses of kafka-python beyond its documented interface, and nothing else.

tests/contract/test_kafka_python_internals.py checks what is used.
"""

import math
from typing import Any

from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch

from streams.header_names import MendsHeaderNames


class _ReadableBatch(MendsHeaderNames, DefaultRecordBatch):  # type: ignore[misc]  # it has no types
    __slots__ = ()


def read_any_header_name() -> None:
    """Let all consumers of this process read records whose headers' names are no text; see the mixin."""
    reader: Any = memory_records
    reader.DefaultRecordBatch = _ReadableBatch


def rejoin(consumer: Any) -> None:
    """Let a member ask its group for another assignment; without effect while the group agrees on one."""
    consumer._coordinator.request_rejoin()


def hangs(consumer: Any) -> bool:
    """Return whether a member leaves its group because its last poll was too long ago."""
    heartbeat = consumer._coordinator.heartbeat
    return math.isfinite(heartbeat.last_poll) and heartbeat.poll_timeout_expired()


def member(consumer: Any) -> str:
    """Return the group's name for a member; empty before the group knows it and after it was forgotten."""
    name: str = consumer._coordinator._generation.member_id
    return name
