"""The tables of one archiver, each separate: an error of one of them stops no other.

A table whose Delta files cannot be read or written is set aside. Its rows in memory are dropped, and no
position of it is committed, so they are read again once it is opened again. It is opened again after 1 s,
2 s, 4 s and so on up to 5 minutes (`services.runtime.quarantine`).
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Iterator, Mapping
from typing import TypeVar

from services.archive import named_versions
from services.archive.delta_writer import DeltaWriter
from services.archive.invalid_records import InvalidRecords
from services.archive.row_schemas import Table
from services.archive.table_archive import TableArchive, TableError, of_table
from services.archive.write_buffer import WriteBuffer
from services.runtime.event_clock import EventClock
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings

Result = TypeVar("Result")


class GuardedTables:
    """Opens the tables, closes those that fail, and opens them again."""

    def __init__(
        self,
        settings: Settings,
        table_of: Mapping[str, Table],
        invalid: InvalidRecords,
        quarantine: Quarantine,
    ) -> None:
        """Open nothing before `open_due`; ``quarantine`` says which tables are set aside."""
        self._settings = settings
        self._table_of = table_of
        self._declared = {table.name: table for table in table_of.values()}
        self._invalid = invalid
        self._quarantine = quarantine
        self._open: dict[str, TableArchive] = {}
        self._named = functools.partial(named_versions.of_table, settings)

    def __iter__(self) -> Iterator[TableArchive]:
        """Iterate over the open tables; the caller may set some aside during the iteration."""
        return iter(list(self._open.values()))

    def of_topic(self, topic: str) -> TableArchive | None:
        """Return the table of a topic; None if it is set aside."""
        return self._open.get(self._table_of[topic].name)

    def topics(self, name: str) -> list[str]:
        """Return the topics of a table."""
        return [topic for topic, table in self._table_of.items() if table.name == name]

    @property
    def all_set_aside(self) -> bool:
        """Whether nothing can be archived."""
        return bool(self._declared) and not self._open

    async def open_due(self) -> list[TableArchive]:
        """Open the tables that are not open and due, create those that do not exist; return them."""
        opened = []
        for name in self._declared.keys() - self._open.keys():
            if self._quarantine.is_due(name, time.monotonic()):
                table = await self._attempt(name, self._opened(self._declared[name]))
                if table is not None:
                    self._open[name] = table
                    opened.append(table)
        return opened

    async def attempt(self, table: TableArchive, work: Awaitable[Result]) -> Result | None:
        """Await work of a table and return its result; None if it fails: the table is set aside.

        Raises outages, of Kafka and of a full disk.
        """
        return await self._attempt(table.name, work)

    def is_doubted(self, table: TableArchive) -> bool:
        """Tell whether a table was set aside and has not worked since; then every commit is due at once."""
        return self._quarantine.is_set_aside(table.name)

    def works(self, table: TableArchive) -> None:
        """Note that a commit of a table has succeeded, or that there is nothing to commit."""
        self._quarantine.works(table.name, time.monotonic())

    async def _opened(self, table: Table) -> TableArchive:
        writer = await of_table(
            table.name, asyncio.to_thread(DeltaWriter, self._settings, table, self._named)
        )
        clock = EventClock("archive", self._settings.event_ahead_seconds_max)
        return TableArchive(WriteBuffer(table, self._invalid.add, event_clock=clock), writer, self._invalid)

    async def _attempt(self, name: str, work: Awaitable[Result]) -> Result | None:
        try:
            return await work
        except TableError as error:
            self._open.pop(name, None)
            self._quarantine.set_aside(name, str(error), time.monotonic())
            return None
