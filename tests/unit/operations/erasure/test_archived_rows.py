"""Rows are deleted by their place, and no byte of them is left in the files of the table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from services.monitoring.inference_log import PREDICTIONS
from services.operations.erasure import archived_rows
from services.operations.erasure.archived_rows import FoundRow
from services.operations.erasure.subject import ErasureError


def rows(*ids: str, start: int = 0, time_ms: int = 0) -> pa.Table:
    offsets = list(range(start, start + len(ids)))
    return pa.table(
        {
            "model": ["m"] * len(ids),
            "partition": pa.array([0] * len(ids), pa.int32()),
            "offset": offsets,
            "prediction_id": list(ids),
            "scored_time_ms": [time_ms + offset for offset in offsets],
        }
    )


def of_ada(model: str, row: Mapping[str, Any]) -> bool:
    return model == "m" and row["prediction_id"].startswith("ada")


@pytest.fixture
def table(tmp_path: Path) -> DeltaTable:
    """Version 0 without the subject, version 1 with it, version 2 with more."""
    for more in (rows("eve0", "eve1"), rows("ada2", "eve3", "ada4", start=2), rows("eve5", start=5)):
        write_deltalake(tmp_path, more, mode="append", partition_by=["model"])
    return DeltaTable(tmp_path)


def ids(table: DeltaTable) -> list[str]:
    table.update_incremental()
    found: list[str] = table.to_pyarrow_table()["prediction_id"].to_pylist()
    return sorted(found)


def parquet_with_ada(table: DeltaTable) -> list[Path]:
    folder = archived_rows.local_folder(table)
    assert folder is not None
    return [path for path in folder.rglob("*.parquet") if b"ada" in path.read_bytes()]


def test_rows_are_found_deleted_and_gone_from_the_files(table: DeltaTable) -> None:
    found = archived_rows.find(table, PREDICTIONS, ["m", "other"], of_ada)
    assert found == [FoundRow("m", 0, 2, 2), FoundRow("m", 0, 4, 4)]
    archived_rows.delete(table, PREDICTIONS, found)
    assert ids(table) == ["eve0", "eve1", "eve3", "eve5"]
    assert len(parquet_with_ada(table)) == 1, "the old file is there until it is removed"
    gone = archived_rows.files_with(table, PREDICTIONS, archived_rows.old_files(table), of_ada)
    assert archived_rows.unreadable_versions(table, [0, 1, 2], gone) == [1, 2]
    assert archived_rows.remove_old_files(table, [0]) == 1
    assert parquet_with_ada(table) == []
    assert DeltaTable(table.table_uri, version=0).to_pyarrow_table().num_rows == 2
    assert archived_rows.find(table, PREDICTIONS, ["m"], of_ada) == []


def test_a_predicate_names_no_id(table: DeltaTable) -> None:
    archived_rows.delete(table, PREDICTIONS, [FoundRow("m", 0, 2, 2)])
    folder = archived_rows.local_folder(table)
    assert folder is not None
    assert "ada2" not in max(folder.glob("_delta_log/*.json")).read_text(encoding="utf-8")


def test_rows_of_a_recreated_topic_with_equal_offsets_stay(table: DeltaTable) -> None:
    write_deltalake(table, rows("eve", "eve", "eve-2", "eve", "eve-4", time_ms=2), mode="append")
    table.update_incremental()
    archived_rows.delete(table, PREDICTIONS, [FoundRow("m", 0, 2, 2), FoundRow("m", 0, 4, 4)])
    assert "eve-2" in ids(table)
    assert not [each for each in ids(table) if each.startswith("ada")]


def test_rows_that_cannot_be_told_apart_are_not_deleted(table: DeltaTable) -> None:
    write_deltalake(table, rows("eve-2", start=2), mode="append")
    table.update_incremental()
    with pytest.raises(ErasureError, match="rows of others have offset 2 and time 2 as well"):
        archived_rows.delete(table, PREDICTIONS, [FoundRow("m", 0, 2, 2)])


def test_a_table_that_cannot_be_read_gets_a_sentence(tmp_path: Path) -> None:
    assert archived_rows.opened(str(tmp_path / "none")) is None
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / f"{0:020}.json").write_text("garbage", encoding="utf-8")
    with pytest.raises(ErasureError, match="cannot be read"):
        archived_rows.opened(str(tmp_path))
