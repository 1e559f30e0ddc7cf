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
from services.features.offline.timeline import AnyArray, Values
from services.features.view_state import Entity

ROW_GROUP = 50_000
"""Rows held before they are written."""
_TYPES = {
    ValueType.STRING: pa.string(),
    ValueType.INT32: pa.int32(),
    ValueType.INT64: pa.int64(),
    ValueType.FLOAT: pa.float32(),
    ValueType.DOUBLE: pa.float64(),
    ValueType.BOOL: pa.bool_(),
}
_TIME = pa.timestamp("ms", tz="UTC")


class BatchWriter:
    """Writes Parquet beside the file and puts it in its place when all is there.

    Each entity begins with a row without time and values: it is never the newest one, but Feast's dask store
    would drop a request for a time before the first value, or long after the last, instead of answering null.
    """

    def __init__(self, view: View, file: BatchFile) -> None:
        """Begin."""
        self.rows = 0
        """Rows with a time."""
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
        """Put the file in its place; after an error, leave the old one as it was."""
        try:
            self._flush()
        finally:
            self._writer.close()
        if error is None:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink()

    def add(self, entity: Entity, values: Values) -> None:
        """Add rows; those of one entity must follow each other."""
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
        for waiting, column in zip(self._columns, columns, strict=True):
            waiting.append(column)

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
    """Convert a column; nan is null."""
    if isinstance(column, np.ndarray) and column.dtype == np.float64:
        return pa.array(column, from_pandas=True).cast(kind)
    return pa.array(column, kind)
