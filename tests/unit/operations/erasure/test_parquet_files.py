"""Rows of a subject are counted in and removed from Parquet files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.operations.erasure import parquet_files
from tests.unit.operations.erasure import subjects


def test_rows_of_the_subject_are_removed(tmp_path: Path) -> None:
    path, subject = tmp_path / "history.parquet", subjects.of("desk", "7")
    rows = pa.table({"desk": pa.array([7, 8, None, 7], pa.int32()), "x": [1.0, 2.0, 3.0, 4.0]})
    pq.write_table(rows, path)
    assert parquet_files.count(path, subject.join_keys, subject.is_in) == 2
    parquet_files.remove_rows(path, subject.join_keys, subject.is_in)
    assert pq.read_table(path).equals(rows.slice(1, 2))
    assert [each.name for each in tmp_path.iterdir()] == ["history.parquet"]


def test_a_file_without_the_join_key_or_without_a_file_has_none(tmp_path: Path) -> None:
    subject = subjects.of("desk", "7")
    pq.write_table(pa.table({"x": [7]}), tmp_path / "other.parquet")
    assert parquet_files.count(tmp_path / "other.parquet", subject.join_keys, subject.is_in) == 0
    assert parquet_files.count(tmp_path / "none.parquet", subject.join_keys, subject.is_in) == 0
