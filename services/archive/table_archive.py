"""One table being archived: the rows that wait for a commit, and the writer that commits them."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TypeVar

import structlog

from services.archive.delta_writer import DeltaWriter
from services.archive.invalid_records import InvalidRecords
from services.archive.row_schemas import Partition, unfit_rows
from services.archive.write_buffer import WriteBuffer
from streams.outages import OutageError

log = structlog.get_logger()
Result = TypeVar("Result")
_DISK_FULL = ("No space left on device", "Disk quota exceeded")


class TableError(RuntimeError):
    """One table cannot be read or written."""


async def of_table(name: str, work: Awaitable[Result]) -> Result:
    """Await Delta's work on a table; raise its errors as `TableError`, and a full disk as `OutageError`."""
    try:
        return await work
    except Exception as error:
        text = str(error)
        reason = f"table {name}: {type(error).__name__}: {text.partition(chr(10))[0]}"
        is_full = any(each in text for each in _DISK_FULL)
        raise (OutageError if is_full else TableError)(reason) from error


class TableArchive:
    """Appends the records of one table's topics to the table.

    The methods run Delta's blocking calls in a thread. Nothing may be added to ``buffer`` while one runs.
    """

    def __init__(self, buffer: WriteBuffer, writer: DeltaWriter, invalid: InvalidRecords) -> None:
        """Create it from an empty buffer, the writer of the same table, and the records that are left out."""
        self.buffer = buffer
        self.name = buffer.table.name
        self._writer = writer
        self._invalid = invalid

    async def start(
        self,
        topic: str,
        log_start_offsets: Mapping[int, int],
        log_end_offsets: Mapping[int, int],
        source: str = "",
    ) -> dict[int, int]:
        """Start partitions of a topic where the table ends; return the offset to read from, by partition.

        Args:
            topic: One of the table's topics.
            log_start_offsets: The first offset that Kafka still holds, by partition to start.
            log_end_offsets: The offset after the last record of each of them. If it is below the position of
                the table, the topic was recreated, and is read from its start.
            source: Digest of the topic's identity (`services.runtime.topic_identity`); empty if it is
                unknown. If the table holds another one, the topic was recreated, too.

        Raises:
            TableError: The table cannot be read.
        """
        return await of_table(self.name, self._start(topic, log_start_offsets, log_end_offsets, source))

    async def _start(
        self,
        topic: str,
        log_start_offsets: Mapping[int, int],
        log_end_offsets: Mapping[int, int],
        source: str,
    ) -> dict[int, int]:
        source_offsets = await asyncio.to_thread(self._writer.source_offsets, topic)
        positions = {}
        for number, start_offset in log_start_offsets.items():
            position = await asyncio.to_thread(self._writer.position, (topic, number))
            is_other = self._writer.note_source((topic, number), source)
            if is_other or position > log_end_offsets[number]:
                log.error("archive.topic_recreated", topic=topic, partition=number, archived_to=position)
                await asyncio.to_thread(self._writer.reset, (topic, number))
                position = 0
            elif position < start_offset and position:
                log.error(
                    "archive.records_expired",  # the archive was down for longer than Kafka's retention
                    topic=topic,
                    partition=number,
                    lost_from=position,
                    lost_to=start_offset,
                )
            self.buffer.start((topic, number), position, source_offsets.get(number, {}))
            positions[number] = position
        return positions

    async def commit(self) -> dict[Partition, int]:
        """Commit what is buffered; return the new positions of the table, empty if nothing was buffered.

        Rows that the table cannot hold become dead letters; the letters are written before the commit.

        Raises:
            TableError: The table cannot be written.
        """
        if not self.buffer.uncommitted:
            return {}
        positions = dict(self.buffer.positions)
        await self._invalid.write()
        try:
            await self._append(positions)
        except TableError:
            unfit = await asyncio.to_thread(unfit_rows, self.buffer.table, self.buffer.rows)
            if not unfit:
                raise
            for row, error in unfit:
                self._invalid.add(row.record, error)
            self.buffer.drop([row for row, _ in unfit])
            await self._invalid.write()
            await self._append(positions)
        self.buffer.committed()
        return positions

    async def _append(self, positions: Mapping[Partition, int]) -> None:
        await of_table(self.name, asyncio.to_thread(self._writer.append, self.buffer.rows, positions))
