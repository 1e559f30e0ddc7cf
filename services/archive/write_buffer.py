"""Records of one table that are read from Kafka and not yet committed to Delta. Pure."""

import time
from collections.abc import Callable, Collection, Iterable

from services.archive.row_schemas import DecodedRecord, Partition, Table
from services.runtime.event_clock import EventClock
from services.runtime.times import now_ms
from streams import repeats
from streams.codec import InvalidRecordError, KafkaRecord

ROWS_MAX = 40_000
"""Maximum rows buffered per table. Committing them takes about 0.5 s; a year of flights takes 40 commits."""
BYTES_MAX = 32 << 20
"""Maximum bytes of record values buffered per table; at most 80 MB with Python's overhead."""
COMMIT_SECONDS = 60.0
"""Maximum age of the oldest buffered record; at low traffic about 1,400 commits a day."""

ReportInvalid = Callable[[KafkaRecord, Exception], None]
"""Called with a record that cannot be decoded, and the error; raises an outage."""


class WriteBuffer:
    """Collects the rows of one table, drops repeats, and decides when a commit is due.

    Two kinds of repeats are dropped: records that Kafka delivers again (an offset below the position of
    their partition), and records that a restarted producer wrote again (`streams.repeats.RepeatFilter`, one
    for each partition of the table's topics).
    """

    def __init__(
        self,
        table: Table,
        report_invalid: ReportInvalid,
        clock: Callable[[], float] = time.monotonic,
        event_clock: EventClock | None = None,
    ) -> None:
        """Create a buffer without partitions; `start` adds one."""
        self._event_clock = event_clock or EventClock("archive")
        self.table = table
        self.rows: list[DecodedRecord] = []
        self.positions: dict[Partition, int] = {}
        """The next offset of each partition, once ``rows`` are committed."""
        self._size_bytes = 0
        self._oldest_seconds: float | None = None
        self._committed: dict[Partition, int] = {}
        self._filters: dict[Partition, repeats.RepeatFilter] = {}
        self._report_invalid = report_invalid
        self._clock = clock

    def start(self, partition: Partition, position: int, source_offsets: repeats.OffsetsBySource) -> None:
        """Start a partition at the position of the table, with the highest source offsets the table holds."""
        self._drop_rows(partition)
        self.positions[partition] = self._committed[partition] = position
        self._filters[partition] = repeats.RepeatFilter.after(source_offsets)

    def stop(self, partition: Partition) -> None:
        """Drop a partition that another member reads from now on, with its rows."""
        self._drop_rows(partition)
        for state in (self.positions, self._committed, self._filters):
            state.pop(partition, None)

    def add(self, partition: Partition, fetched: Iterable[KafkaRecord]) -> None:
        """Add records of one partition, in order; records of a partition that was stopped are ignored."""
        position = self.positions.get(partition)
        if position is None:
            return  # revoked while its records were being fetched
        is_repeat = self._filters[partition].is_repeat if self.table.repeats else None
        decode, rows, size_bytes = self.table.decoder(partition), self.rows, 0
        heartbeat: DecodedRecord | None = None
        for record in fetched:
            offset, value = record.offset, record.value
            if offset < position:
                continue
            position = offset + 1
            if value is None:
                heartbeat = self._later_heartbeat(heartbeat, record)
                continue
            if heartbeat is not None:
                rows.append(heartbeat)
                heartbeat = None
            try:
                decoded = decode(value)
            except Exception as error:  # noqa: BLE001  # of this record alone, or it is raised again
                self._report_invalid(record, error)
                continue
            if is_repeat is None or not is_repeat(
                decoded.source_partition, decoded.source_offset, decoded.source
            ):
                rows.append(DecodedRecord(record, decoded))
                size_bytes += len(value)
        if heartbeat is not None:
            rows.append(heartbeat)
        self._size_bytes += size_bytes
        if self._oldest_seconds is None and position != self.positions[partition]:
            self._oldest_seconds = self._clock()
        self.positions[partition] = position

    def drop(self, rows: Collection[DecodedRecord]) -> None:
        """Drop rows that the table cannot hold; their offsets count as read."""
        dropped = {id(row) for row in rows}
        self.rows = [row for row in self.rows if id(row) not in dropped]

    def due(self) -> bool:
        """Return whether a commit is due, by rows, bytes or age."""
        if len(self.rows) >= ROWS_MAX or self._size_bytes >= BYTES_MAX:
            return True
        return self._oldest_seconds is not None and self._clock() - self._oldest_seconds >= COMMIT_SECONDS

    @property
    def uncommitted(self) -> bool:
        """Whether a position or a row is not in the table yet."""
        return self.positions != self._committed

    @property
    def idle_positions(self) -> dict[Partition, int]:
        """The next offset of each partition of which everything that was read is in the table."""
        return {each: offset for each, offset in self.positions.items() if self._committed[each] == offset}

    def committed(self) -> None:
        """Record that all rows and positions are in the table."""
        self.rows = []
        self._committed = dict(self.positions)
        self._size_bytes = 0
        self._oldest_seconds = None

    def _drop_rows(self, partition: Partition) -> None:
        self.rows = [row for row in self.rows if (row.record.topic, row.record.partition) != partition]

    def _later_heartbeat(self, heartbeat: DecodedRecord | None, record: KafkaRecord) -> DecodedRecord | None:
        """Return the one of two consecutive heartbeats with the higher watermark: only it is archived."""
        try:
            beats = self.table.heartbeats
            watermark_ms = self._event_clock.watermark_of(record, now_ms()) if beats else None
        except InvalidRecordError as error:
            self._report_invalid(record, error)
            return heartbeat
        if watermark_ms is None or (heartbeat is not None and heartbeat.decoded >= watermark_ms):
            return heartbeat
        return DecodedRecord(record, watermark_ms)
