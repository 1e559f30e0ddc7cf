"""A table that fails is closed and opened again; the others go on."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from services.archive import row_schemas
from services.archive.guarded_tables import GuardedTables
from services.archive.invalid_records import InvalidRecords
from services.archive.table_archive import TableError, of_table
from services.runtime import metrics
from services.runtime import quarantine as quarantine_module
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from streams.outages import OutageError
from tests.unit.archive.kafka_records import TOPIC, MemoryLetters

TABLE_OF = {TOPIC: row_schemas.OUTCOMES, "m.labels": row_schemas.EVENTS, "m.requests": row_schemas.EVENTS}


def tables_of(folder: Path, quarantine: Quarantine) -> GuardedTables:
    return GuardedTables(Settings(home=folder), TABLE_OF, InvalidRecords(MemoryLetters()), quarantine)


def broken(folder: Path, table: str) -> Path:
    """Write a Delta log that cannot be read."""
    path = folder / "archive" / table / "_delta_log" / "00000000000000000000.json"
    path.parent.mkdir(parents=True)
    path.write_text("{garbage")
    return path


def test_a_table_that_cannot_be_opened_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine_module, "RETRY_SECONDS_MIN", 0.0)
    quarantine = Quarantine("archive", "table")
    tables, log_file = tables_of(tmp_path, quarantine), broken(tmp_path, "outcomes")
    gauge = metrics.TABLES_SET_ASIDE.labels("archive", "outcomes")

    async def open_twice() -> None:
        assert [each.name for each in await tables.open_due()] == ["events"]
        assert tables.of_topic(TOPIC) is None
        assert not tables.all_set_aside
        assert gauge._value.get() == 1
        log_file.unlink()
        (table,) = await tables.open_due()
        assert tables.is_doubted(table)
        tables.works(table)
        assert not tables.is_doubted(table)

    asyncio.run(open_twice())
    assert {each.name for each in tables} == {"events", "outcomes"}
    assert tables.topics("events") == ["m.labels", "m.requests"]
    assert gauge._value.get() == 0


def test_a_table_is_not_opened_before_its_pause_has_passed(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, Quarantine("archive", "table"))
    broken(tmp_path, "outcomes"), broken(tmp_path, "events")

    async def open_twice() -> list[Any]:
        return [*await tables.open_due(), *await tables.open_due()]

    assert asyncio.run(open_twice()) == []
    assert tables.all_set_aside


async def raising(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError("denied"), TableError),
        (ValueError("a column of another type"), TableError),
        (OSError("Unable to copy data to file: No space left on device (os error 28)"), OutageError),
    ],
)
def test_a_full_disk_is_an_outage_and_any_other_error_is_one_of_the_table(
    error: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(expected, match=r"^table outcomes: "):
        asyncio.run(of_table("outcomes", raising(error)))


@pytest.mark.parametrize("error", [OutageError("Kafka"), ConnectionError("Kafka")])
def test_an_error_that_is_none_of_the_table_is_raised(tmp_path: Path, error: Exception) -> None:
    tables = tables_of(tmp_path, Quarantine("archive", "table"))

    async def attempt(work: Callable[[Exception], Awaitable[None]]) -> None:
        await tables.open_due()
        await tables.attempt(next(iter(tables)), work(error))

    with pytest.raises(type(error)):
        asyncio.run(attempt(raising))
