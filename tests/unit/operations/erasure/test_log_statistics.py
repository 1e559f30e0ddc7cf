"""The log of a table keeps statistics of integers alone, and its versions can still be read."""

from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from services.operations.erasure import log_statistics


def test_ids_are_gone_from_entries_and_checkpoints(tmp_path: Path) -> None:
    for number in range(3):
        write_deltalake(tmp_path, pa.table({"id": [f"zoe{number}"], "offset": [number]}), mode="append")
    DeltaTable(tmp_path).create_checkpoint()
    log = tmp_path / "_delta_log"
    assert any(b"zoe" in path.read_bytes() for path in log.iterdir())
    assert log_statistics.remove(str(tmp_path), tmp_path, ["offset"]) == 4
    assert not any(b"zoe" in path.read_bytes() for path in log.iterdir())
    assert list(log.glob("*.checkpoint.parquet"))
    assert DeltaTable(tmp_path).to_pyarrow_table().num_rows == 3
    assert DeltaTable(tmp_path, version=0).to_pyarrow_table()["id"].to_pylist() == ["zoe0"]
    assert log_statistics.remove(str(tmp_path), tmp_path, ["offset"]) == 0
    assert b'\\"offset\\":2' in (log / f"{2:020}.json").read_bytes()
