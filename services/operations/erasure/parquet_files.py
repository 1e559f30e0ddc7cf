"""Parquet files with rows of a subject: histories of feature views, batch sources, data of retrainings."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Matches = Callable[[Mapping[str, Any]], bool]


def count(path: Path, columns: Collection[str], matches: Matches) -> int:
    """Return the number of rows of a file that match; 0 if it lacks one of the columns."""
    if not path.is_file() or not set(columns) <= set(pq.read_schema(path).names):
        return 0
    with pq.ParquetFile(path) as file:
        batches: Iterable[pa.RecordBatch] = file.iter_batches(columns=sorted(columns))
        return sum(matches(row) for batch in batches for row in batch.to_pylist())


def remove_rows(path: Path, columns: Collection[str], matches: Matches) -> None:
    """Write a file again without the rows that match; it is replaced in one step."""
    part = path.with_name(f".{path.name}.part")
    with pq.ParquetFile(path) as file, pq.ParquetWriter(part, file.schema_arrow) as writer:
        for batch in file.iter_batches():
            kept = [not matches(row) for row in batch.select(sorted(columns)).to_pylist()]
            writer.write_batch(batch.filter(pa.array(kept, pa.bool_())))
    part.replace(path)
