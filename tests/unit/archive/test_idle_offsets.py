"""Which offsets of idle partitions are committed."""

import asyncio
from typing import Any

from aiokafka import TopicPartition

from services.archive.idle_offsets import IdleOffsets


class Consumer:
    """Has read each of its partitions up to a position."""

    def __init__(self, **positions: int) -> None:
        self.positions = {TopicPartition(topic, 0): offset for topic, offset in positions.items()}

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    async def position(self, place: TopicPartition) -> int:
        return self.positions[place]


def changed(idle: IdleOffsets, **archived: int) -> dict[Any, int]:
    return asyncio.run(idle.changed({(topic, 0): offset for topic, offset in archived.items()}))


def test_the_higher_of_what_is_read_and_what_is_archived_is_committed_once() -> None:
    idle = IdleOffsets(Consumer(ahead=9, behind=0))
    found = changed(idle, ahead=7, behind=5, revoked=3)
    assert found == {("ahead", 0): 9, ("behind", 0): 5}
    idle.note(found)
    assert changed(idle, ahead=7, behind=5) == {}
    idle.forget()
    assert changed(idle, ahead=9) == {("ahead", 0): 9}


def test_a_check_is_due_after_a_while() -> None:
    assert not IdleOffsets(Consumer()).is_due()
