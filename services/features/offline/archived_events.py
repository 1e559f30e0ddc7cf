"""The archived events of a source topic, judged again exactly as the stream judged them.

The archive keeps each record with its source partition and offset, and the heartbeats among them. So
`SourceDecoder.read`, the stream's own rule, finds the same events, late records and bad ones.
"""

import dataclasses
import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow.dataset as ds

from services.features.decoder import DecodedSlice, SourceDecoder
from services.monitoring import inference_log
from services.runtime.settings import Settings
from services.runtime.watermarks import NEVER
from streams import codec

BATCH_RECORDS = 10_000
OFFSET_END = 2**63 - 1
MEMORY = "256MB"
"""Of a sort in DuckDB; what does not fit goes to files."""


class ArchiveError(RuntimeError):
    """The archive cannot be read as it is. The message says what to do."""


class Archived(NamedTuple):
    """An archived record, as far as it is judged; a heartbeat has its header again."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    key: bytes | None = None
    timestamp: int = 0


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A place between two records of a source partition, and its watermark there."""

    next_offset: int = 0
    watermark_ms: int = NEVER


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a stretch of a source partition holds, and the place behind it."""

    partition: int
    records: int
    intake: DecodedSlice
    mark: Mark


Stretch = tuple[Mark, int | None]
"""Of a partition: from a mark to before an offset, None for all there is."""


class Served(NamedTuple):
    """An archived prediction with the request that it answers."""

    offset: int
    prediction_id: str
    event_time_ms: int
    scored_time_ms: int
    source_partition: int
    source_offset: int
    numbers: list[float | None]
    texts: list[str | None]
    features_lag_ms: int | None
    request: bytes | None
    """None if it is not archived."""


_SERVED = """
    SELECT p."offset", p.prediction_id, p.event_time_ms, p.scored_time_ms, p.source_partition,
           p.source_offset, p.features_number, p.features_text, p.features_lag_ms, e.value
    FROM predictions p
    LEFT JOIN events e ON e.topic = ? AND e.partition = p.source_partition AND e."offset" = p.source_offset
    WHERE p.model = ? AND p.partition = ? AND p."offset" >= ? AND md5(p.prediction_id) < ?
      AND p.source_offset >= 0
    ORDER BY p."offset" LIMIT ?
"""


class Archive:
    """The events table at one version, read through DuckDB in bounded memory."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        """Open the newest version; sorts spill into the scratch folder. `ArchiveError` if there is none."""
        opened = inference_log.tables(settings)
        if inference_log.EVENTS not in opened:
            raise ArchiveError(f"{settings.archive_root}: no events yet; is the archive process running?")
        names = {field.name for field in opened[inference_log.EVENTS].schema().fields}
        if "watermark_ms" not in names:
            raise ArchiveError(
                f"{settings.archive_root}: this archive holds no heartbeats; start the archive process once"
            )
        self._tables = opened
        self._events = opened[inference_log.EVENTS].to_pyarrow_dataset()
        self.connection = bounded(inference_log.connect(settings, opened), scratch)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def position(self, table: str, topic: str, partition: int) -> int:
        """Return the offset before which a table holds everything of a partition; 0 without the table."""
        opened = self._tables.get(table)
        found = opened.transaction_version(inference_log.transaction_id(topic, partition)) if opened else 0
        return int(found or 0)

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that hold something."""
        rows = self.connection.execute(
            "SELECT DISTINCT partition FROM events WHERE topic = ? ORDER BY 1", [topic]
        )
        return [partition for (partition,) in rows.fetchall()]

    def count(self, topic: str) -> int:
        """Return the number of records of a topic, heartbeats included."""
        return int(self._events.count_rows(filter=ds.field("topic") == topic))

    def prediction_partitions(self, model: str) -> list[int]:
        """Return the partitions of a model's predictions that hold something."""
        if inference_log.PREDICTIONS not in self._tables:
            return []
        rows = self.connection.execute(
            "SELECT DISTINCT partition FROM predictions WHERE model = ? ORDER BY 1", [model]
        )
        return [partition for (partition,) in rows.fetchall()]

    def served(
        self, model: str, request_topic: str, partition: int, start: int, id_bound: str, rows_max: int
    ) -> list[Served]:
        """Return the next predictions of a partition, in order, whose id has a hash below a bound.

        Answers over HTTP are none of them: what they were asked with is not archived.
        """
        rows = self.connection.execute(_SERVED, [request_topic, model, partition, start, id_bound, rows_max])
        return [Served(*row) for row in rows.fetchall()]

    def judge(
        self, reader: SourceDecoder, stretches: Mapping[int, Stretch] | None = None
    ) -> Iterator[Judged]:
        """Judge each partition in the order of its offsets, one partition after the other.

        Args:
            reader: Of the source.
            stretches: By partition what to read of it; default: everything of all partitions.
        """
        if stretches is not None and not stretches:
            return
        # DuckDB's own scan of a dataset would read far ahead.
        scanner = self._events.scanner(
            columns=["partition", "offset", "timestamp_ms", "watermark_ms", "value"],
            filter=(ds.field("topic") == reader.source.topic) & _within(stretches),
            batch_size=BATCH_RECORDS,
            batch_readahead=2,
            fragment_readahead=1,
            use_threads=False,
        )
        self.connection.register("stretch", scanner.to_reader())
        rows = self.connection.sql('SELECT * FROM stretch ORDER BY partition, "offset"')
        marks = {partition: mark for partition, (mark, _) in (stretches or {}).items()}
        for partition, records in _batches(rows, reader.source.topic):
            mark = marks.get(partition, Mark())
            intake = reader.decode(records, mark.watermark_ms)
            marks[partition] = Mark(records[-1].offset + 1, intake.watermark_ms)
            yield Judged(partition, len(records), intake, marks[partition])


def bounded(connection: Any, scratch: Path) -> Any:
    """Give a DuckDB connection its limits."""
    connection.execute(f"SET memory_limit = '{MEMORY}'")
    connection.execute("SET temp_directory = $folder", {"folder": str(scratch)})
    connection.execute("SET preserve_insertion_order = false")
    return connection


def _within(stretches: Mapping[int, Stretch] | None) -> Any:
    """Return the condition of an Arrow dataset."""
    if stretches is None:
        return ds.scalar(value=True)
    own = (
        (ds.field("partition") == partition)
        & (ds.field("offset") >= mark.next_offset)
        & (ds.field("offset") < (OFFSET_END if end is None else end))
        for partition, (mark, end) in stretches.items()
    )
    return functools.reduce(operator.or_, own)


def _batches(rows: Any, topic: str) -> Iterator[tuple[int, list[Archived]]]:
    """Yield the rows of a query that is sorted by partition, never two partitions at once."""
    for batch in rows.to_arrow_reader(BATCH_RECORDS):
        partitions, *columns = (column.to_pylist() for column in batch.columns)
        start = 0
        for index in range(1, len(partitions) + 1):
            if index == len(partitions) or partitions[index] != partitions[start]:
                partition = partitions[start]
                own = zip(*(column[start:index] for column in columns), strict=True)
                yield partition, [_archived(topic, partition, *row) for row in own]
                start = index


def _archived(
    topic: str, partition: int, offset: int, timestamp_ms: int, watermark_ms: int | None, value: bytes | None
) -> Archived:
    headers = () if watermark_ms is None else codec.heartbeat(watermark_ms)
    return Archived(topic, partition, offset, value, headers, timestamp=timestamp_ms)
