"""Sorts accepted events by entity on disk; memory holds only part of them."""

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from services.features.decoder import SourceDecoder
from services.features.offline.archived_events import BATCH_RECORDS, ArchivedRecord, limit_memory
from services.features.view_state import Event, ViewLogic


class EntitySort:
    """Takes the events of one source in any order; yields those of each view sorted by entity and time."""

    def __init__(
        self,
        scratch: Path,
        decoder: SourceDecoder,
        logics: Sequence[ViewLogic],
        wanted: Mapping[str, Container[bytes]] | None = None,
    ) -> None:
        """Write to a file in the scratch folder.

        Args:
            scratch: A folder that only the caller uses.
            decoder: The decoder of the source.
            logics: The logic of each view of the source.
            wanted: The keys of the entities to keep, by view; default: all.
        """
        self._decoder = decoder
        self._scratch = scratch
        self._wanted = wanted
        self._logics = {f"key_{index}": logic for index, logic in enumerate(logics)}
        self._path = scratch / f"{decoder.source.topic}.parquet"
        columns = [("partition", pa.int32()), ("offset", pa.int64()), ("time_ms", pa.int64())]
        keys = [(name, pa.binary()) for name in self._logics]
        self._schema = pa.schema([*columns, ("value", pa.binary()), *keys])
        self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        self.counts = dict.fromkeys((logic.view.name for logic in logics), 0)
        """Number of events that have an entity, by view."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the file."""
        self._writer.close()
        self._path.unlink(missing_ok=True)

    def add(self, events: Sequence[tuple[Any, Event]]) -> None:
        """Add events with their records."""
        rows: list[tuple[Any, ...]] = []
        for record, event in events:
            keys = [self._key(logic, event) for logic in self._logics.values()]
            if any(keys):
                position = (event.source_partition, event.source_offset, event.time_ms)
                rows.append((*position, record.value, *keys))
        if rows:
            columns = list(zip(*rows, strict=True))
            for view, keys_of_view in zip(self.counts, columns[-len(self.counts) :], strict=True):
                self.counts[view] += len(rows) - keys_of_view.count(None)
            arrays = [
                pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)
            ]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def _key(self, logic: ViewLogic, event: Event) -> bytes | None:
        """Return the key of the event's entity; None if it has no entity, or one that is not wanted."""
        entity = logic.entity(event.value)
        if entity is None:
            return None
        key = logic.key_of(entity)
        return key if self._wanted is None or key in self._wanted[logic.view.name] else None

    def close(self) -> None:
        """Finish writing; call `of_view` next."""
        self._writer.close()

    def of_view(self, view: str) -> Iterator[Event]:
        """Yield the events with an entity, sorted by entity, time, source partition and offset."""
        (key,) = (name for name, logic in self._logics.items() if logic.view.name == view)
        topic = self._decoder.source.topic
        with limit_memory(duckdb.connect(), self._scratch) as connection:
            rows = connection.sql(
                'SELECT partition, "offset", value FROM read_parquet($path) '  # noqa: S608  # names from this module
                f'WHERE {key} IS NOT NULL ORDER BY {key}, time_ms, partition, "offset"',
                params={"path": str(self._path)},
            )
            for batch in rows.to_arrow_reader(BATCH_RECORDS):
                columns = (column.to_pylist() for column in batch.columns)
                for partition, offset, value in zip(*columns, strict=True):
                    record = ArchivedRecord(topic, partition, offset, value, ())
                    yield self._decoder.decode_record(record, partition, offset)
