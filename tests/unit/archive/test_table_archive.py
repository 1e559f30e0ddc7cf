"""Where the partitions of a table start, and what a commit reaches."""

import asyncio
from pathlib import Path

import pytest

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.invalid_records import InvalidRecords
from services.archive.table_archive import TableArchive
from services.archive.write_buffer import WriteBuffer
from services.monitoring import inference_log
from services.runtime.settings import Settings
from tests.unit.archive.kafka_records import TOPIC, MemoryLetters, Record, outcome


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def archive(settings: Settings) -> TableArchive:
    buffer = WriteBuffer(row_schemas.OUTCOMES, lambda _, error: pytest.fail(str(error)))
    return TableArchive(buffer, DeltaWriter(settings, row_schemas.OUTCOMES), InvalidRecords(MemoryLetters()))


def test_a_partition_starts_where_the_table_ends_and_drops_its_repeats(settings: Settings) -> None:
    async def commit_and_restart() -> dict[int, int]:
        first, second = archive(settings), archive(settings)
        assert await first.start(TOPIC, {0: 0, 1: 0}, {0: 9, 1: 9}) == {0: 0, 1: 0}
        first.buffer.add((TOPIC, 0), [Record(0, outcome(0)), Record(1, outcome(1))])
        assert await first.commit() == {(TOPIC, 0): 2, (TOPIC, 1): 0}
        positions = await second.start(TOPIC, {0: 0, 1: 0}, {0: 9, 1: 9})
        second.buffer.add((TOPIC, 0), [Record(2, outcome(1)), Record(3, outcome(2))])
        await second.commit()
        return positions

    assert asyncio.run(commit_and_restart()) == {0: 2, 1: 0}
    with inference_log.connect(settings) as log:
        assert log.execute('SELECT "offset" FROM outcomes ORDER BY ALL').fetchall() == [(0,), (1,), (3,)]


def test_a_commit_of_an_empty_buffer_reaches_nothing(settings: Settings) -> None:
    async def commit() -> dict[tuple[str, int], int]:
        table = archive(settings)
        await table.start(TOPIC, {0: 0}, {0: 9})
        return await table.commit()

    assert asyncio.run(commit()) == {}


def test_records_that_retention_deleted_before_they_were_archived_are_reported(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async def restart_late() -> None:
        first, second = archive(settings), archive(settings)
        await first.start(TOPIC, {0: 0}, {0: 9})
        first.buffer.add((TOPIC, 0), [Record(0, outcome(0))])
        await first.commit()
        await second.start(TOPIC, {0: 9}, {0: 9})

    asyncio.run(restart_late())
    assert "archive.records_expired" in capsys.readouterr().out


def test_a_topic_that_was_recreated_is_archived_from_its_start(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async def read_recreated() -> dict[int, int]:
        first, second, third = archive(settings), archive(settings), archive(settings)
        await first.start(TOPIC, {0: 0}, {0: 2})
        first.buffer.add(
            (TOPIC, 0), [Record(0, outcome(0, source="old")), Record(1, outcome(1, source="old"))]
        )
        await first.commit()
        assert await second.start(TOPIC, {0: 0}, {0: 1}) == {0: 0}
        second.buffer.add((TOPIC, 0), [Record(0, outcome(0, source="new"))])
        await second.commit()
        return await third.start(TOPIC, {0: 0}, {0: 1})

    assert asyncio.run(read_recreated()) == {0: 1}
    assert "archive.topic_recreated" in capsys.readouterr().out
    with inference_log.connect(settings) as log:
        assert log.execute('SELECT "offset" FROM outcomes ORDER BY ALL').fetchall() == [(0,), (0,), (1,)]
