"""The training set in memory and as a Parquet file, with a digest of all that it holds."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from services.model_registry.model_inputs import InputKind, Inputs

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PREFIX = "driftline_"
"""Begins the names of the columns that are no features."""
ROW_COLUMNS = ("prediction_id", "event_time_ms", "label_time_ms", "label")
NULL_TIME = np.iinfo(np.int64).min
_READ_ROWS = 65_536

Columns = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class DataVersion:
    """The data that a model was trained on, with all that is needed to read the same rows again."""

    tables: Mapping[str, int]
    """Version of each Delta table."""
    sha256: str
    """Digest of ids, times, labels and features in order, see `DataDigest`."""
    rows: int
    first_event_ms: int
    last_event_ms: int


class DataDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a training set besides its rows."""

    version: DataVersion
    text: list[str]
    times: list[str] = []
    left_out: int = 0
    left_out_by: dict[str, int] = {}
    definitions_unknown: int = 0
    immature: int = 0
    """Number of rows whose label could still have come, or been corrected, at the time of the request."""
    beyond_caps: int = 0
    """Number of rows that are older than ``retraining.max_days`` or beyond ``retraining.max_rows``."""


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """n rows, ordered by event time, then prediction id."""

    rows: "pd.DataFrame"
    """Columns: prediction_id, event_time_ms, label_time_ms, label."""
    features: "pd.DataFrame"
    """(n, n_features) as served, in the order of the declaration; float64 with nan, or object with None."""
    text: list[str]
    """The features that hold text."""
    version: DataVersion
    times: Sequence[str] = ()
    """The features that hold datetimes with a time zone."""
    left_out: int = 0
    """Number of rows that the training set could not use."""
    definitions_unknown: int = 0
    """Number of rows that do not tell how their features were defined, which are taken to fit."""
    left_out_by: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of rows by reason; a row may have several."""

    @property
    def numeric(self) -> list[str]:
        """The features that hold numbers."""
        return [name for name in self.features.columns if name not in {*self.text, *self.times}]

    @property
    def labels(self) -> npt.NDArray[np.float64]:
        """Labels (n,), see `streams.records.Label.value`."""
        return self.rows["label"].to_numpy(dtype=np.float64)

    @property
    def event_times_ms(self) -> npt.NDArray[np.int64]:
        """Event times (n,)."""
        return self.rows["event_time_ms"].to_numpy()

    def take(self, kept: npt.NDArray[np.bool_]) -> "TrainingSet":
        """Return the rows (n,) that are marked; their index begins at 0."""
        if kept.all():
            return self
        rows, features = (each[kept].reset_index(drop=True) for each in (self.rows, self.features))
        return dataclasses.replace(self, rows=rows, features=features)


class DataDigest:
    """A SHA-256 of rows, whatever the slices in which they come and however a file encodes them.

    Each column has two digests, one of the lengths of its values and one of their bytes. Lengths tell a null
    from an empty text. All nan are the same.
    """

    def __init__(self) -> None:
        """Begin without rows."""
        self._columns: dict[str, list[Any]] = {}

    def add(self, name: str, values: npt.NDArray[Any]) -> None:
        """Add the next values (n,) of a column: numbers, or texts and datetimes as objects with None."""
        lengths, content = self._columns.setdefault(name, [hashlib.sha256(), hashlib.sha256()])
        if values.dtype == object:
            encoded = [None if each is None else str(each).encode() for each in values.tolist()]
            sizes = [-1 if each is None else len(each) for each in encoded]
            lengths.update(np.array(sizes, dtype="<i8").tobytes())
            content.update(b"".join(filter(None, encoded)))
        elif values.dtype.kind == "f":
            numbers = values.astype("<f8")
            content.update(np.where(np.isnan(numbers), np.nan, numbers).tobytes())
        else:
            content.update(values.astype("<i8").tobytes())

    def hexdigest(self) -> str:
        """Return the digest of all columns, whose order counts."""
        total = hashlib.sha256()
        for name, parts in self._columns.items():
            total.update(f"{name}\n".encode())
            for part in parts:
                total.update(part.digest())
        return total.hexdigest()


class ParquetFile:
    """A file that is written slice by slice: only one of them is in memory."""

    def __init__(self, path: Path, given: Inputs) -> None:
        """Open the file for rows with these features, in order."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {InputKind.NUMBER: pa.float64(), InputKind.TEXT: pa.string()}
        times = pa.timestamp("us", tz="UTC")
        row_types = (pa.string(), pa.int64(), pa.int64(), pa.float64())
        fields = [(PREFIX + name, kind) for name, kind in zip(ROW_COLUMNS, row_types, strict=True)]
        fields += [(name, types.get(kind, times)) for name, kind in given.items()]
        self._schema = pa.schema(fields)
        self._writer: Any = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._digest = DataDigest()
        self.rows = 0
        self.first_event_ms, self.last_event_ms = 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, rows: Columns, features: Columns) -> None:
        """Write the next rows, in order.

        Args:
            rows: `ROW_COLUMNS` (n,) by name.
            features: (n,) by name, as served: see `TrainingSet.features`.
        """
        import pyarrow as pa

        columns = {PREFIX + name: rows[name] for name in ROW_COLUMNS} | dict(features)
        times_ms = rows["event_time_ms"]
        if not len(times_ms):
            return
        arrays = []
        for field in self._schema:
            values = columns[field.name]
            self._digest.add(field.name, _instants(values) if pa.types.is_timestamp(field.type) else values)
            arrays.append(pa.array(values, field.type, from_pandas=False))
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self.first_event_ms = self.first_event_ms if self.rows else int(times_ms[0])
        self.last_event_ms = int(times_ms[-1])
        self.rows += len(times_ms)

    def version(self, tables: Mapping[str, int]) -> DataVersion:
        """Return the version of the data that was written, given that of the tables that were read."""
        return DataVersion(
            tables, self._digest.hexdigest(), self.rows, self.first_event_ms, self.last_event_ms
        )


def _instants(times: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return datetimes (n,) or None as microseconds: the same instants whatever their offsets."""
    import pyarrow as pa

    found = pa.array(times, pa.timestamp("us", tz="UTC")).cast(pa.int64())
    filled: npt.NDArray[np.int64] = found.fill_null(NULL_TIME).to_numpy(zero_copy_only=False)
    return filled


def read(path: Path, description: DataDescription) -> TrainingSet:
    """Read a training set from a file that `ParquetFile` has written."""
    import pandas as pd
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    columns = {name: _column(table.column(name)) for name in table.column_names}
    rows = {name: columns.pop(PREFIX + name) for name in ROW_COLUMNS}
    objects = {*description.text, *description.times}
    features = {
        name: pd.Series(values, dtype=object) if name in objects else values
        for name, values in columns.items()
    }
    return TrainingSet(
        rows=pd.DataFrame(rows, copy=False),
        features=pd.DataFrame(features, columns=list(columns), copy=False),
        text=description.text,
        version=description.version,
        times=description.times,
        left_out=description.left_out,
        definitions_unknown=description.definitions_unknown,
        left_out_by=description.left_out_by,
    )


def _column(values: "pa.ChunkedArray") -> npt.NDArray[Any]:
    import pyarrow as pa

    if pa.types.is_timestamp(values.type):
        found: npt.NDArray[Any] = np.empty(len(values), dtype=object)
        found[:] = values.to_pylist()
        return found
    array: npt.NDArray[Any] = values.to_numpy()
    return array


def slices(path: Path) -> Iterator["pa.RecordBatch"]:
    """Yield the rows of a file in slices, for readers with little memory."""
    import pyarrow.parquet as pq

    yield from pq.ParquetFile(path).iter_batches(_READ_ROWS)
