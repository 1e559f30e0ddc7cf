"""The file of a batch source: types, the row without a time, and replacement."""

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.feature_store.plan import BatchFile, Column, ValueType, View, ViewKind
from services.features.offline.parquet_file import BatchFileWriter
from services.features.offline.timeline import FeatureValues

VIEW = View(
    "v",
    ViewKind.WINDOWED,
    (Column("shop", ValueType.STRING), Column("desk", ValueType.INT32)),
    (Column("total", ValueType.DOUBLE), Column("note", ValueType.STRING), Column("rate", ValueType.FLOAT)),
    0,
)


@pytest.fixture
def file(tmp_path: Path) -> BatchFile:
    return BatchFile(str(tmp_path / "new" / "v.parquet"), "at")


def values(*times_ms: int) -> FeatureValues:
    totals = np.array([math.nan if t == 0 else t / 2 for t in times_ms])
    notes = np.array([None if t == 0 else f"n{t}" for t in times_ms], dtype=object)
    return FeatureValues(np.array(times_ms), [totals, notes, totals])


def test_each_entity_begins_with_a_row_without_time_and_values(file: BatchFile) -> None:
    with BatchFileWriter(VIEW, file) as writer:
        writer.add(("mill", 1), values(0, 3))
        writer.add(("mill", 1), values(4))
        writer.add(("dock", 2), values(5))
        assert writer.rows == 4
    found = pq.read_table(file.path).to_pydict()
    assert found["shop"] == ["mill"] * 4 + ["dock"] * 2
    assert found["desk"] == [1] * 4 + [2] * 2
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    times = [None if at is None else (at - epoch) // dt.timedelta(milliseconds=1) for at in found["at"]]
    assert times == [None, 0, 3, 4, None, 5]
    assert found["total"] == [None, None, 1.5, 2.0, None, 2.5]
    assert found["note"] == [None, None, "n3", "n4", None, "n5"]


def test_columns_have_the_types_of_the_features(file: BatchFile) -> None:
    with BatchFileWriter(VIEW, file) as writer:
        writer.add(("mill", 1), values(3))
    schema = pq.read_schema(file.path)
    assert schema.names == ["at", "shop", "desk", "total", "note", "rate"]
    assert schema.types == [
        pa.timestamp("ms", tz="UTC"),
        pa.string(),
        pa.int32(),
        pa.float64(),
        pa.string(),
        pa.float32(),
    ]


def test_view_without_rows_has_an_empty_file(file: BatchFile) -> None:
    with BatchFileWriter(VIEW, file):
        pass
    assert pq.read_table(file.path).num_rows == 0


def fail_while_writing(file: BatchFile) -> None:
    with BatchFileWriter(VIEW, file) as writer:
        writer.add(("mill", 1), values(4))
        raise ZeroDivisionError


def test_error_keeps_the_old_file_and_removes_the_temporary_one(file: BatchFile) -> None:
    with BatchFileWriter(VIEW, file) as writer:
        writer.add(("mill", 1), values(3))
    before = Path(file.path).read_bytes()
    with pytest.raises(ZeroDivisionError):
        fail_while_writing(file)
    assert Path(file.path).read_bytes() == before
    assert [path.name for path in Path(file.path).parent.iterdir()] == ["v.parquet"]


def test_more_rows_than_one_group_are_all_written(file: BatchFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.features.offline.parquet_file.ROW_GROUP", 3)
    with BatchFileWriter(VIEW, file) as writer:
        for second in range(10):
            writer.add(("mill", 1), values(second + 1))
    assert pq.read_table(file.path).num_rows == 11
