"""Records of one table that are read from Kafka and not yet committed to Delta. Pure."""

import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from services.archive.row_schemas import DecodedRecord, Table
from streams.codec import KafkaRecord, RepeatFilter, watermark_of

ROWS_MAX = 40_000
"""Records waiting, a table: such a commit takes about half a second, and a year of flights needs about 40."""
BYTES_MAX = 32 << 20
"""Of their values; with Python's overhead about 80 MB a table at most."""
COMMIT_SECONDS = 60.0
"""The oldest record waits no longer: about 1,400 commits a day where little happens."""

Partition = tuple[str, int]
"""Topic and partition number."""
Report = Callable[[KafkaRecord, str], None]
"""Is told of a record that cannot be decoded, and why."""


class WriteBuffer:
    """Collects rows, drops what is archived already, and says when a commit is due.

    Two kinds of repeats are dropped: records that Kafka delivers again (an offset below the position of
    their partition), and records that a restarted producer wrote again (`streams.codec.RepeatFilter`, one
    for each partition of the table's topics).
    """

    def __init__(self, table: Table, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without partitions; see `start`."""
        self.table = table
        self.rows: list[DecodedRecord] = []
        self.positions: dict[Partition, int] = {}
        """The next offset of each partition, once ``rows`` are committed."""
        self._size_bytes = 0
        self._oldest_seconds: float | None = None
        self._committed: dict[Partition, int] = {}
        self._filters: dict[Partition, RepeatFilter] = {}
        self._report = report
        self._clock = clock

    def start(self, partition: Partition, position: int, last_source_offsets: Mapping[int, int]) -> None:
        """Begin with a partition where the table ends, knowing the last source offsets that it holds."""
        self.rows = [row for row in self.rows if (row.record.topic, row.record.partition) != partition]
        self.positions[partition] = self._committed[partition] = position
        self._filters[partition] = RepeatFilter(last_source_offsets)

    def stop(self, partition: Partition) -> None:
        """Forget a partition that another member reads from now on, with its rows."""
        self.rows = [row for row in self.rows if (row.record.topic, row.record.partition) != partition]
        for state in (self.positions, self._committed, self._filters):
            state.pop(partition, None)

    def add(self, partition: Partition, found: Iterable[KafkaRecord]) -> None:
        """Take records of one partition, in order."""
        position = self.positions.get(partition)
        if position is None:
            return  # taken from us while they were fetched
        is_repeat = self._filters[partition].is_repeat if self.table.repeats else None
        decode, rows, size_bytes = self.table.decode, self.rows, 0
        beat: DecodedRecord | None = None
        for record in found:
            offset, value = record.offset, record.value
            if offset < position:
                continue
            position = offset + 1
            if value is None:
                beat = self._later(beat, record)
                continue
            if beat is not None:
                rows.append(beat)
                beat = None
            try:
                decoded = decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._report(record, str(error))
                continue
            if is_repeat is None or not is_repeat(decoded.source_partition, decoded.source_offset):
                rows.append(DecodedRecord(record, decoded))
                size_bytes += len(value)
        if beat is not None:
            rows.append(beat)
        self._size_bytes += size_bytes
        if self._oldest_seconds is None and position != self.positions[partition]:
            self._oldest_seconds = self._clock()
        self.positions[partition] = position

    def _later(self, beat: DecodedRecord | None, record: KafkaRecord) -> DecodedRecord | None:
        """Return which of two heartbeats in a row promises more: only that one is archived, if any."""
        promised_ms = watermark_of(record.headers) if self.table.heartbeats else None
        if promised_ms is None or (beat is not None and beat.decoded >= promised_ms):
            return beat
        return DecodedRecord(record, promised_ms)

    def due(self) -> bool:
        """Tell whether a commit should not wait any longer."""
        if len(self.rows) >= ROWS_MAX or self._size_bytes >= BYTES_MAX:
            return True
        return self._oldest_seconds is not None and self._clock() - self._oldest_seconds >= COMMIT_SECONDS

    @property
    def uncommitted(self) -> bool:
        """Tell whether a position or a row is not in the table yet."""
        return self.positions != self._committed

    def committed(self) -> None:
        """Take note that all rows and positions are in the table."""
        self.rows = []
        self._committed = dict(self.positions)
        self._size_bytes = 0
        self._oldest_seconds = None
