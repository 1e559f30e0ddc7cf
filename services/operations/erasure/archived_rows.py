"""The rows of a subject in one Delta table: found, deleted, and gone from its files.

A deletion writes the files of these rows again without them. The old files are then removed at once, also
those of the versions that models were trained on: such a version cannot be read any more if one of its files
held the subject. Files of versions without the subject stay.

A predicate is kept in the log of the table. So it names offsets, and never an id or a value.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet
from deltalake import DeltaTable, WriterProperties
from deltalake.exceptions import CommitFailedError

from services.monitoring import inference_log
from services.operations.erasure.subject import ErasureError

CHUNK_ROWS = 1000
"""Rows that one predicate names: it is kept in the log of the table."""
ATTEMPTS_MAX = 20
"""Maximum attempts of a deletion while the archive writes to the table."""
ORPHAN_HOURS = 1
"""Age of a file that no version names, from which nobody is still writing it."""

Matches = Callable[[str, Mapping[str, Any]], bool]
"""Tells whether a row, given the topic or the model and the columns, is of the subject."""


class TableLayout(NamedTuple):
    """What the search needs to know of a table."""

    partition_by: str
    time: str
    """A column with a time: with it, offsets of a recreated topic are told apart."""
    columns: tuple[str, ...]
    """The columns that tell whether a row is of the subject."""


LAYOUTS: Mapping[str, TableLayout] = {
    inference_log.EVENTS: TableLayout("topic", "timestamp_ms", ("key", "value")),
    inference_log.PREDICTIONS: TableLayout("model", "scored_time_ms", ("prediction_id",)),
    inference_log.OUTCOMES: TableLayout("model", "label_time_ms", ("prediction_id",)),
}


@dataclasses.dataclass(frozen=True)
class FoundRow:
    """Where a row is."""

    group: str
    """The topic or the model."""
    partition: int
    offset: int
    time_ms: int


def opened(uri: str) -> DeltaTable | None:
    """Return the table at a place; None if there is none.

    Raises:
        ErasureError: The archive cannot be read.
    """
    try:
        return DeltaTable(uri) if DeltaTable.is_deltatable(uri) else None
    except Exception as error:
        raise ErasureError(
            f"the archive table {uri} cannot be read ({_first_line(error)}): see DRIFTLINE_ARCHIVE_URI, and "
            "whether the disk or the object store is there, then run it again"
        ) from error


def find(table: DeltaTable, name: str, groups: Iterable[str], matches: Matches) -> list[FoundRow]:
    """Return the rows of the subject in the latest version, in the given topics or models."""
    layout = LAYOUTS[name]
    data = table.to_pyarrow_dataset()
    found: list[FoundRow] = []
    for group in groups:
        chosen = data.to_batches(
            columns=["partition", "offset", layout.time, *layout.columns],
            filter=pc.field(layout.partition_by) == group,
        )
        for batch in chosen:
            found += [
                FoundRow(group, row["partition"], row["offset"], row[layout.time])
                for row in batch.to_pylist()
                if matches(group, row)
            ]
    return found


def delete(table: DeltaTable, name: str, rows: Sequence[FoundRow]) -> None:
    """Delete these rows from the latest version.

    Raises:
        ErasureError: Rows of others have the same offsets and times, or the archive was faster each time.
    """
    layout = LAYOUTS[name]
    by_partition: defaultdict[tuple[str, int], list[FoundRow]] = defaultdict(list)
    for row in rows:
        by_partition[row.group, row.partition].append(row)
    for (group, partition), of_partition in by_partition.items():
        of_partition.sort(key=lambda row: (row.offset, row.time_ms))
        for start in range(0, len(of_partition), CHUNK_ROWS):
            _delete_chunk(table, layout, group, partition, of_partition[start : start + CHUNK_ROWS])


def _delete_chunk(
    table: DeltaTable, layout: TableLayout, group: str, partition: int, rows: Sequence[FoundRow]
) -> None:
    offsets, times = sorted({row.offset for row in rows}), sorted({row.time_ms for row in rows})
    chosen = (
        (pc.field(layout.partition_by) == group)
        & (pc.field("partition") == partition)
        & pc.field("offset").isin(offsets)
        & pc.field(layout.time).isin(times)
    )
    predicate = (
        f"{layout.partition_by} = '{group}' AND partition = {partition} "
        f'AND "offset" IN ({_listed(offsets)}) AND {layout.time} IN ({_listed(times)})'
    )
    for _ in range(ATTEMPTS_MAX):
        table.update_incremental()
        count = table.to_pyarrow_dataset().count_rows(filter=chosen)
        if count > len(rows):
            if len(rows) > 1:  # offsets of a recreated topic, and times of others
                for row in rows:
                    _delete_chunk(table, layout, group, partition, [row])
                return
            raise ErasureError(
                f"table {layout.partition_by}={group}: rows of others have offset {offsets[0]} and time "
                f"{times[0]} as well: delete the row by hand, and run it again"
            )
        try:
            table.delete(
                predicate, writer_properties=WriterProperties(compression="ZSTD", compression_level=1)
            )
        except CommitFailedError:
            continue
        return
    raise ErasureError("the archive wrote to the table at each attempt: run it again")


def old_files(table: DeltaTable) -> list[str]:
    """Return the files that the latest version does not name any more, as paths below the table."""
    return list(table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True))


def files_with(table: DeltaTable, name: str, paths: Iterable[str], matches: Matches) -> set[str]:
    """Return those of these files that hold rows of the subject; files in an object store are not read."""
    layout, root = LAYOUTS[name], local_folder(table)
    if root is None:
        return set(paths)
    found = set[str]()
    for path in paths:
        group = _group_of(path)
        file = root / path
        if not file.is_file():
            continue
        columns = [each for each in layout.columns if each in pa.parquet.read_schema(file).names]
        batches = ds.dataset(file, format="parquet").to_batches(columns=columns)
        if any(matches(group, row) for batch in batches for row in batch.to_pylist()):
            found.add(path)
    return found


def unreadable_versions(table: DeltaTable, versions: Iterable[int], gone: set[str]) -> list[int]:
    """Return those of these versions of a table that need one of these files."""
    if not gone:
        return []
    return [
        version
        for version in versions
        if gone
        & set(pa.table(DeltaTable(table.table_uri, version=version).get_add_actions())["path"].to_pylist())
    ]


def remove_old_files(table: DeltaTable, kept_versions: Sequence[int]) -> int:
    """Remove the files that the latest version does not name, except those of the kept versions.

    Files that no version names, of a writer that crashed, are removed from the age of `ORPHAN_HOURS` on.
    Return the number of files removed.
    """
    table.update_incremental()
    removed = table.vacuum(
        retention_hours=0,
        enforce_retention_duration=False,
        dry_run=False,
        keep_versions=list(kept_versions) or None,
    )
    orphans = table.vacuum(
        retention_hours=ORPHAN_HOURS,
        enforce_retention_duration=False,
        dry_run=False,
        full=True,
        keep_versions=list(kept_versions) or None,
    )
    return len(removed) + len(orphans)


def local_folder(table: DeltaTable) -> Path | None:
    """Return the folder of a table on this machine; None for one in an object store."""
    uri = unquote(table.table_uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri)


def _group_of(path: str) -> str:
    """Return the topic or the model of a file.

    >>> _group_of("model=delays/part-0.parquet")
    'delays'
    """
    return path.partition("=")[2].partition("/")[0]


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
