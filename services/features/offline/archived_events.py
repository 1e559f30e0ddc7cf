"""Reads the archived records of a source topic and decodes them exactly as the stream did.

The archive keeps each record with its source partition and offset, including the heartbeats. So
`SourceDecoder.decode`, which the stream uses, finds the same events, late records and invalid records.
"""

import dataclasses
import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc

from services.features.decoder import DecodedSlice, SourceDecoder
from services.features.offline.watermark_index import IndexEntry, OffsetRange
from services.monitoring import inference_log
from services.runtime.settings import Settings
from streams import codec

BATCH_RECORDS = 10_000
"""Maximum records that are decoded together."""
OFFSET_END = 2**63 - 1
MEMORY = "256MB"
"""Memory limit of a sort in DuckDB; the rest spills to files."""


class ArchiveError(RuntimeError):
    """The archive cannot be read. The message says what to do."""


class ArchivedRecord(NamedTuple):
    """The attributes of an archived record that decoding needs; a heartbeat has its header again."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    key: bytes | None = None
    timestamp: int = 0


@dataclasses.dataclass(frozen=True)
class DecodedBatch:
    """Decoded records of one source partition."""

    partition: int
    records: int
    """Number of records."""
    decoded: DecodedSlice
    end: IndexEntry
    """The place after the last record."""


class ServedPrediction(NamedTuple):
    """An archived prediction with its request."""

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
    """None if the request is not archived."""
    feature_set: str | None = None
    """Digest of the names of its features; None or empty for one of an older version."""


_SERVED_PREDICTIONS = """
    SELECT p."offset", p.prediction_id, p.event_time_ms, p.scored_time_ms, p.source_partition,
           p.source_offset, p.features_number, p.features_text, p.features_lag_ms, e.value, {feature_set}
    FROM predictions p
    LEFT JOIN events e ON e.topic = ? AND e.partition = p.source_partition AND e."offset" = p.source_offset
    WHERE p.model = ? AND p.partition = ? AND p."offset" >= ? AND md5(p.prediction_id) < ?
      AND p.source_offset >= 0
    ORDER BY p."offset" LIMIT ?
"""


class EventArchive:
    """The events table at one version, read through DuckDB in bounded memory."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        """Open the newest version; raise `ArchiveError` if there is none.

        Sorts spill into the scratch folder.
        """
        opened = inference_log.tables(settings)
        if inference_log.EVENTS not in opened:
            raise ArchiveError(f"{settings.archive_root}: no archived events; start the archive process")
        names = {field.name for field in opened[inference_log.EVENTS].schema().fields}
        if "watermark_ms" not in names:
            raise ArchiveError(
                f"{settings.archive_root}: the archive has no heartbeats; start the archive process once"
            )
        self._tables = opened
        self._events = opened[inference_log.EVENTS].to_pyarrow_dataset()
        self.connection = limit_memory(inference_log.connect(settings, opened), scratch)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def position(self, table: str, topic: str, partition: int) -> int:
        """Return the next offset of a partition to be archived in a table; 0 without the table."""
        opened = self._tables.get(table)
        found = opened.transaction_version(inference_log.transaction_id(topic, partition)) if opened else 0
        return int(found or 0)

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have archived records."""
        rows = self.connection.execute(
            "SELECT DISTINCT partition FROM events WHERE topic = ? ORDER BY 1", [topic]
        )
        return [partition for (partition,) in rows.fetchall()]

    def count(self, topic: str) -> int:
        """Return the number of archived records of a topic, including heartbeats."""
        return int(self._events.count_rows(filter=pc.field("topic") == topic))

    def prediction_partitions(self, model: str) -> list[int]:
        """Return the partitions of a model's topic that have archived predictions."""
        if inference_log.PREDICTIONS not in self._tables:
            return []
        rows = self.connection.execute(
            "SELECT DISTINCT partition FROM predictions WHERE model = ? ORDER BY 1", [model]
        )
        return [partition for (partition,) in rows.fetchall()]

    def served(
        self, model: str, request_topic: str, partition: int, start: int, id_bound: str, rows_max: int
    ) -> list[ServedPrediction]:
        """Return the next sampled predictions of a partition: those whose id has an MD5 hash below a bound.

        Predictions over HTTP are left out, because their requests are not archived.
        """
        arguments = [request_topic, model, partition, start, id_bound, rows_max]
        columns = {field.name for field in self._tables[inference_log.PREDICTIONS].schema().fields}
        named = "p.feature_set" if "feature_set" in columns else "NULL"
        rows = self.connection.execute(_SERVED_PREDICTIONS.format(feature_set=named), arguments)
        return [ServedPrediction(*row) for row in rows.fetchall()]

    def decode(
        self, decoder: SourceDecoder, ranges: Mapping[int, OffsetRange] | None = None
    ) -> Iterator[DecodedBatch]:
        """Decode each partition in the order of its offsets, one partition after the other.

        Args:
            decoder: The decoder of the source.
            ranges: What to read of each partition; default: all partitions completely.
        """
        if ranges is not None and not ranges:
            return
        # DuckDB's own scan of a dataset would read too far ahead.
        scanner = self._events.scanner(
            columns=["partition", "offset", "timestamp_ms", "watermark_ms", "value"],
            filter=(pc.field("topic") == decoder.source.topic) & _in_ranges(ranges),
            batch_size=BATCH_RECORDS,
            batch_readahead=2,
            fragment_readahead=1,
            use_threads=False,
        )
        self.connection.register("archived", scanner.to_reader())
        rows = self.connection.sql('SELECT * FROM archived ORDER BY partition, "offset"')
        ends = {partition: found.start for partition, found in (ranges or {}).items()}
        for partition, records in _batches(rows, decoder.source.topic):
            decoded = decoder.decode(records, ends.get(partition, IndexEntry()).watermark_ms)
            ends[partition] = IndexEntry(records[-1].offset + 1, decoded.watermark_ms)
            yield DecodedBatch(partition, len(records), decoded, ends[partition])


def limit_memory(connection: Any, scratch: Path) -> Any:
    """Limit the memory of a DuckDB connection; what does not fit spills to the scratch folder."""
    connection.execute(f"SET memory_limit = '{MEMORY}'")
    connection.execute("SET temp_directory = $folder", {"folder": str(scratch)})
    connection.execute("SET preserve_insertion_order = false")
    return connection


def _in_ranges(ranges: Mapping[int, OffsetRange] | None) -> Any:
    """Return a filter of an Arrow dataset."""
    if ranges is None:
        return pc.scalar(True)
    filters = (
        (pc.field("partition") == partition)
        & (pc.field("offset") >= start.next_offset)
        & (pc.field("offset") < (OFFSET_END if stop is None else stop))
        for partition, (start, stop) in ranges.items()
    )
    return functools.reduce(operator.or_, filters)


def _batches(rows: Any, topic: str) -> Iterator[tuple[int, list[ArchivedRecord]]]:
    """Yield the rows of a query that is sorted by partition, in batches of one partition each."""
    for batch in rows.to_arrow_reader(BATCH_RECORDS):
        partitions, *columns = (column.to_pylist() for column in batch.columns)
        start = 0
        for index in range(1, len(partitions) + 1):
            if index == len(partitions) or partitions[index] != partitions[start]:
                partition = partitions[start]
                rows_of = zip(*(column[start:index] for column in columns), strict=True)
                yield partition, [_archived(topic, partition, *row) for row in rows_of]
                start = index


def _archived(
    topic: str, partition: int, offset: int, timestamp_ms: int, watermark_ms: int | None, value: bytes | None
) -> ArchivedRecord:
    headers = () if watermark_ms is None else codec.heartbeat(watermark_ms)
    return ArchivedRecord(topic, partition, offset, value, headers, timestamp=timestamp_ms)
