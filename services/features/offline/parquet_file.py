"""The file of a stream view's batch source, as Feast's offline stores read it."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.feature_store.plan import BatchFile, ValueType, View
from services.features.offline.timeline import AnyArray, FeatureValues
from services.features.view_state import Entity

ROW_GROUP = 50_000
"""Rows buffered before they are written."""
_TYPES = {
    ValueType.STRING: pa.string(),
    ValueType.INT32: pa.int32(),
    ValueType.INT64: pa.int64(),
    ValueType.FLOAT: pa.float32(),
    ValueType.DOUBLE: pa.float64(),
    ValueType.BOOL: pa.bool_(),
}
_TIME = pa.timestamp("ms", tz="UTC")


class BatchFileWriter:
    """Writes a temporary Parquet file and renames it over the old file when it is complete.

    Each entity begins with a row without time and values. It is never the newest row, but without it Feast's
    dask store would drop a request for a time before the first value, or long after the last, instead of
    returning null.
    """

    def __init__(self, view: View, file: BatchFile) -> None:
        """Open the temporary file."""
        self.rows = 0
        """Number of rows with a time."""
        self._view = view
        self._path = Path(file.path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        fields = [(column.name, _TYPES[column.type]) for column in (*view.join_keys, *view.features)]
        self._schema = pa.schema([(file.timestamp_field, _TIME), *fields])
        self._entity: Entity | None = None
        self._times: list[int | None] = []
        self._keys: list[Entity] = []
        self._columns: list[list[AnyArray]] = [[] for _ in view.features]
        self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Replace the old file; after an error, keep it."""
        try:
            self._flush()
        finally:
            self._writer.close()
        if error is None:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink()

    def add(self, entity: Entity, values: FeatureValues) -> None:
        """Add rows; all rows of one entity must be added one after the other."""
        if entity != self._entity:
            self._entity = entity
            self._add(entity, [None], [np.full_like(column[:1], None) for column in values.columns])
        self._add(entity, values.times_ms.tolist(), values.columns)
        self.rows += len(values.times_ms)
        if len(self._times) >= ROW_GROUP:
            self._flush()

    def _add(self, entity: Entity, times: Sequence[int | None], columns: Sequence[AnyArray]) -> None:
        self._times += times
        self._keys += [entity] * len(times)
        for buffered, column in zip(self._columns, columns, strict=True):
            buffered.append(column)

    def _flush(self) -> None:
        if not self._times:
            return
        keys = zip(*self._keys, strict=True)
        features = (np.concatenate(column) for column in self._columns)
        columns = zip([self._times, *keys, *features], self._schema, strict=True)
        arrays = [_array(column, field.type) for column, field in columns]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._times, self._keys, self._columns = [], [], [[] for _ in self._columns]


def _array(column: Any, kind: pa.DataType) -> pa.Array:
    """Convert a column; nan becomes null."""
    if isinstance(column, np.ndarray) and column.dtype == np.float64:
        return pa.array(column, from_pandas=True).cast(kind)
    return pa.array(column, kind)
