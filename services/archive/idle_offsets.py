"""Kafka's offsets of partitions from which nothing waits for a commit of their table.

The commit of a table commits the offset after its last record. But the markers of transactions and the
records of aborted ones come after that, and a kill between the two commits leaves Kafka's offset before that
of the table. So that the lag of the group is zero when everything is read, idle partitions are committed as
well.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError

from services.archive.row_schemas import Partition

CHECK_SECONDS = 10.0
"""Time between two checks; a commit is a round trip, and only for positions that have changed."""


class IdleOffsets:
    """Finds the offsets of idle partitions that are to be committed."""

    def __init__(self, consumer: Any) -> None:
        """Take the archive's consumer."""
        self._consumer = consumer
        self._committed: dict[Partition, int] = {}
        self._checked_seconds = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the time for a check has come; then the next one is due later."""
        if time.monotonic() - self._checked_seconds < CHECK_SECONDS:
            return False
        self._checked_seconds = time.monotonic()
        return True

    async def changed(self, archived: Mapping[Partition, int]) -> dict[Partition, int]:
        """Return the offsets to commit.

        Args:
            archived: The positions of the tables; nothing that was read before them waits for a commit.
        """
        changed = {}
        for partition, offset in archived.items():
            place = TopicPartition(*partition)
            if place not in self._consumer.assignment():
                continue
            with contextlib.suppress(IllegalStateError):  # it is revoked at this moment
                position = max(offset, await self._consumer.position(place))
                if self._committed.get(partition) != position:
                    changed[partition] = position
        return changed

    def note(self, committed: Mapping[Partition, int]) -> None:
        """Take what was committed to Kafka."""
        self._committed |= committed

    def forget(self) -> None:
        """Forget what was committed: other members may have committed since."""
        self._committed.clear()
