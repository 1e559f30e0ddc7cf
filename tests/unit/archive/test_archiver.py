"""When the archiver commits: a scripted consumer and a real Delta table."""

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from services.archive import row_schemas
from services.archive.archiver import Archiver
from services.monitoring import inference_log
from services.runtime.settings import Settings
from streams import records, topics
from tests.unit.archive.kafka_records import TOPIC, MemoryLetters, Record, outcome

REQUEST = records.encode(
    records.RetrainingRequested(
        request_id="r", model="m", trigger="manual", requested_at_ms=0, reason="a test", offsets={TOPIC: [2]}
    )
)


class ScriptedConsumer:
    """Returns one prepared batch for each poll."""

    def __init__(self, *batches: dict[TopicPartition, Sequence[Any]]) -> None:
        self._batches = list(batches)
        self.committed: dict[TopicPartition, int] = {}
        self.sought: list[int] = []

    async def getmany(self, **_: Any) -> dict[TopicPartition, Sequence[Any]]:
        return self._batches.pop(0)

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 2)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought.append(offset)

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.committed |= offsets

    def highwater(self, partition: TopicPartition) -> None: ...


OUTCOMES, REQUESTS = TopicPartition(TOPIC, 0), TopicPartition(topics.RETRAINING.name, 0)
ROWS = [Record(0, outcome(0)), Record(1, outcome(1))]


def archived(settings: Settings) -> int:
    """Return the position of the table."""
    return inference_log.positions(settings, "outcomes", {TOPIC: [0]})[TOPIC][0]


def test_a_request_read_before_the_assignment_is_met_once_its_records_are_read(tmp_path: Path) -> None:
    """The rows are committed at once when they are read, not when they are a minute old."""
    settings = Settings(home=tmp_path)
    consumer = ScriptedConsumer({REQUESTS: [Record(0, REQUEST)]}, {OUTCOMES: ROWS[:1]}, {OUTCOMES: ROWS[1:]})
    archiver = Archiver(settings, {TOPIC: row_schemas.OUTCOMES}, consumer, MemoryLetters())

    async def positions_after_each_step() -> list[int]:
        await archiver.open_tables()
        await archiver.step()
        await archiver.on_partitions_assigned([OUTCOMES, REQUESTS])
        reached = []
        for _ in range(2):
            await archiver.step()
            reached.append(archived(settings))
        return reached

    assert asyncio.run(positions_after_each_step()) == [0, 2]
    assert consumer.committed == {OUTCOMES: 2}


def test_a_request_without_offsets_needs_all_records_up_to_the_ends(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    anywhere = records.encode(
        records.RetrainingRequested(
            request_id="r", model="m", trigger="manual", requested_at_ms=0, reason="a test"
        )
    )
    consumer = ScriptedConsumer({OUTCOMES: ROWS[:1]}, {REQUESTS: [Record(0, anywhere)]}, {OUTCOMES: ROWS[1:]})
    archiver = Archiver(settings, {TOPIC: row_schemas.OUTCOMES}, consumer, MemoryLetters())

    async def positions_after_each_step() -> list[int]:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES, REQUESTS])
        reached = []
        for _ in range(3):
            await archiver.step()
            reached.append(archived(settings))
        return reached

    assert asyncio.run(positions_after_each_step()) == [0, 0, 2]


def test_rows_are_committed_before_a_partition_is_revoked(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    consumer = ScriptedConsumer({OUTCOMES: ROWS})
    archiver = Archiver(settings, {TOPIC: row_schemas.OUTCOMES}, consumer, MemoryLetters())

    async def read_and_revoke() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        assert archiver.not_ready() is None
        await archiver.step()
        assert archived(settings) == 0
        await archiver.on_partitions_revoked([OUTCOMES])

    asyncio.run(read_and_revoke())
    assert archived(settings) == 2
    assert consumer.committed == {}  # a group that is rebalancing may refuse offsets
    assert archiver.not_ready()


def test_a_failed_rebalance_ends_the_loop(tmp_path: Path) -> None:
    """The client only logs an error of its listener, and would read on from a wrong offset."""

    class UnreachableBroker(ScriptedConsumer):
        async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
            raise OSError("no broker")

    archiver = Archiver(
        Settings(home=tmp_path), {TOPIC: row_schemas.OUTCOMES}, UnreachableBroker({}), MemoryLetters()
    )

    async def rebalance() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        await archiver.step()

    with pytest.raises(OSError, match="no broker"):
        asyncio.run(rebalance())


def test_a_gap_before_a_fetch_is_read_again_and_accepted_if_it_is_still_there(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    later = [Record(5, outcome(5))]
    consumer = ScriptedConsumer({OUTCOMES: later}, {OUTCOMES: ROWS}, {OUTCOMES: later}, {OUTCOMES: later})
    archiver = Archiver(settings, {TOPIC: row_schemas.OUTCOMES}, consumer, MemoryLetters())

    async def read() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        for _ in range(4):
            await archiver.step()
        await archiver.on_partitions_revoked([OUTCOMES])

    asyncio.run(read())
    assert consumer.sought == [0, 0, 2], "the start, the jump to 5 from 0, the jump to 5 from 2"
    assert archived(settings) == 6


def test_a_record_that_cannot_be_archived_is_a_dead_letter_and_its_neighbours_are_archived(
    tmp_path: Path,
) -> None:
    """One cannot be decoded, one is decoded and does not fit the type of its column."""
    settings, writer = Settings(home=tmp_path), MemoryLetters()
    *others, last = row_schemas.OUTCOMES.columns
    table = dataclasses.replace(
        row_schemas.OUTCOMES,
        columns=[*others, last._replace(read=lambda row: 7 if row.record.offset == 3 else None)],
    )
    batch = [*ROWS, Record(2, b"{"), Record(3, outcome(3)), Record(4, outcome(4))]
    consumer = ScriptedConsumer({OUTCOMES: batch})
    archiver = Archiver(settings, {TOPIC: table}, consumer, writer)

    async def read() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        await archiver.step()
        await archiver.on_partitions_revoked([OUTCOMES])

    asyncio.run(read())
    assert archived(settings) == 5
    assert [(letter.offset, letter.kind) for letter in writer.letters] == [(2, "invalid"), (3, "defect")]
    assert writer.letters[1].value == outcome(3)
    with inference_log.connect(settings) as connection:
        rows = connection.execute("SELECT source_offset FROM outcomes ORDER BY 1").fetchall()
    assert rows == [(0,), (1,), (4,)]
