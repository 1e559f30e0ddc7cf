"""The log of a Delta table names the least and the greatest value of each column of each file: also ids.

Tables of this version have statistics of their integer columns alone (`services.archive.delta_writer`). In
the log of an older table, which keeps its entries for years, the others are removed: statistics are optional,
and no reader depends on them.
"""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow.parquet
from deltalake import DeltaTable

_BOUNDS = ("minValues", "maxValues", "nullCount")


def remove(uri: str, folder: Path, kept: Collection[str]) -> int:
    """Remove the statistics of all columns but these from the log; return the number of entries changed.

    Entries are replaced, one after the other, by the same without statistics. Then the checkpoints, which
    repeat them, are made again. It may end anywhere, and be done again.

    Args:
        uri: The table.
        folder: Its folder.
        kept: The columns whose statistics stay.
    """
    log = folder / "_delta_log"
    entries = sum(_remove_from_entry(path, kept) for path in sorted(log.glob("*.json")))
    stale = [path for path in sorted(log.glob("*.checkpoint*.parquet")) if _has_others(path, kept)]
    if stale and (log / f"{0:020}.json").is_file():
        (log / "_last_checkpoint").unlink(
            missing_ok=True
        )  # readers take the entries from 0 on until there is one
        for path in stale:
            path.unlink()
        DeltaTable(uri).create_checkpoint()
    return entries + len(stale)


def without(line: str, kept: Collection[str]) -> str:
    r"""Return a line of an entry without the statistics of other columns; the same line if it has none.

    >>> stats = json.dumps({"numRecords": 1, "minValues": {"id": "N1", "offset": 3}})
    >>> without(json.dumps({"add": {"path": "p", "stats": stats}}), ["offset"])
    '{"add":{"path":"p","stats":"{\\"numRecords\\":1,\\"minValues\\":{\\"offset\\":3}}"}}'
    """
    if '"stats"' not in line:
        return line
    action = json.loads(line)
    stats = json.loads((action.get("add") or {}).get("stats") or "{}")
    if not _others(stats, kept):
        return line
    for name in _BOUNDS:
        stats[name] = {column: value for column, value in stats.get(name, {}).items() if column in kept}
    action["add"]["stats"] = _compact(
        {name: value for name, value in stats.items() if value or name not in _BOUNDS}
    )
    return _compact(action)


def _remove_from_entry(path: Path, kept: Collection[str]) -> bool:
    before = path.read_text(encoding="utf-8").splitlines()
    after = [without(line, kept) for line in before]
    if after == before:
        return False
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write("\n".join(after) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return True


def _has_others(checkpoint: Path, kept: Collection[str]) -> bool:
    """Return whether a checkpoint has statistics of other columns, as text or as columns of its own."""
    rows = pyarrow.parquet.read_table(checkpoint, columns=["add"])["add"].to_pylist()
    return any(_others(json.loads(row.get("stats") or "{}"), kept) for row in rows if row) or any(
        _others(row.get("stats_parsed") or {}, kept) for row in rows if row
    )


def _others(stats: dict[str, Any], kept: Collection[str]) -> bool:
    return any(column not in kept for name in _BOUNDS for column in stats.get(name) or {})


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
