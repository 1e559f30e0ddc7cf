"""Runs the queries of a training set on Ray: a cluster joins and sorts what is too large for one machine.

1. Tasks read the files of the two tables and split the rows by a hash of the id.
2. DuckDB answers the queries of `row_source` in each part, which holds all rows of its ids.
3. Ray Data sorts the rows of all parts, and they come slice by slice.

Ray writes to the disks of the cluster what does not fit into its memory. The tasks read the archive, so its
folder or URI, and Driftline, are needed on each machine.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from services.monitoring import inference_log
from services.retraining.errors import RetrainingError
from services.retraining.row_source import (
    KINDS,
    LATEST,
    ORDER,
    SLICE_ROWS,
    SPAN,
    DuckDbRows,
    RowCount,
    sum_of,
)
from services.runtime.settings import Settings
from streams.outages import OutageError

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = (inference_log.PREDICTIONS, inference_log.OUTCOMES)
PARTS_A_CPU = 2
"""Parts for each CPU of the cluster: a CPU that is late holds up less."""
ONE_THREAD: dict[str, Any] = {"threads": 1}
"""Of DuckDB in a task, which has one CPU."""


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Be connected to the cluster of ``RAY_ADDRESS``, or to a new one on this machine.

    Raises:
        RetrainingError: Ray is not installed.
        OutageError: There is no cluster at the address.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RetrainingError(
            "DRIFTLINE_RETRAINING_ENGINE is ray, but Ray is not installed: install driftline[ray], or set "
            "the engine to duckdb"
        ) from error
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    except ConnectionError as error:
        raise OutageError(f"Ray: {error}: check RAY_ADDRESS, and that the cluster runs") from error
    try:
        yield
    finally:
        ray.shutdown()


class RayRows:
    """Runs the queries in parts."""

    def __init__(self, settings: Settings, versions: Mapping[str, int], joined: str) -> None:
        """Begin to split the tables; `connected` must be active.

        Args:
            settings: Where the tables are.
            versions: Version of each table.
            joined: The text that makes the view ``joined``.
        """
        import ray

        resources: Any = ray.cluster_resources  # it has no types
        count = PARTS_A_CPU * max(1, int(resources().get("CPU", 1)))
        read: Any = ray.remote(num_returns=count)(_read)
        split = {
            name: [
                read.remote(inference_log.path(settings, name), versions[name], number, count)
                for number in range(count)
            ]
            for name in TABLES
        }
        self._parts = [
            {name: [pieces[number] for pieces in found] for name, found in split.items()}
            for number in range(count)
        ]
        self._joined = joined
        self._usable: pa.Table | None = None

    def kinds(self) -> list[RowCount]:
        """Return the kinds of all labelled rows."""
        return sum_of(row for found in self._all(KINDS) for row in found)

    def use(self, usable: "pa.Table") -> None:
        """Take the kinds that can be read."""
        self._usable = usable

    def span(self, from_ms: int) -> tuple[int, int]:
        """Return the number of usable rows from an event time on, and their last event time."""
        found = [row for rows in self._all(SPAN.format(from_ms=from_ms)) for row in rows]
        return sum(rows for rows, _ in found), max(last_ms or 0 for _, last_ms in found)

    def ordered(self, from_ms: int, rows_max: int) -> Iterable["pa.RecordBatch"]:
        """Yield the latest usable rows from an event time on, in order."""
        import ray

        beyond = max(0, self.span(from_ms)[0] - rows_max)
        parts = self._start(_rows, LATEST.format(from_ms=from_ms, rows_max=rows_max))
        rows = ray.data.from_arrow_refs(parts).sort(list(ORDER))
        tables: Iterable[Any] = rows.iter_batches(batch_size=SLICE_ROWS, batch_format="pyarrow")
        for table in tables:
            left_out = min(beyond, table.num_rows)
            beyond -= left_out
            yield from table.slice(left_out).combine_chunks().to_batches()

    def _all(self, query: str) -> list[list[tuple[Any, ...]]]:
        """Return the answer of each part."""
        import ray

        found: list[list[tuple[Any, ...]]] = ray.get(self._start(_answer, query))
        return found

    def _start(self, function: Any, query: str) -> list[Any]:
        import ray

        task = ray.remote(function)
        return [
            task.remote(self._joined, self._usable, query, *part[TABLES[0]], *part[TABLES[1]])
            for part in self._parts
        ]


def _read(uri: str, version: int, number: int, count: int) -> list["pa.Table"]:
    """Read every ``count``-th file of a table, and split its rows by id."""
    import duckdb
    from deltalake import DeltaTable
    from pyarrow.dataset import FileSystemDataset

    whole = DeltaTable(uri, version=version).to_pyarrow_dataset()
    files = list(whole.get_fragments())[number::count]
    part = FileSystemDataset(files, whole.schema, whole.format, whole.filesystem)
    with duckdb.connect(config=ONE_THREAD) as connection:
        connection.register("part", part)
        connection.execute(
            f"CREATE TEMP TABLE split AS SELECT *, hash(prediction_id) % {count} AS place FROM part"  # noqa: S608  # a number
        )
        query = "SELECT * EXCLUDE (place) FROM split WHERE place = ?"
        return [connection.sql(query, params=[place]).to_arrow_table() for place in range(count)]


@contextlib.contextmanager
def _part(joined: str, usable: "pa.Table | None", pieces: tuple["pa.Table", ...]) -> Iterator[Any]:
    """Yield a connection with the pieces of predictions, then as many of outcomes."""
    import duckdb
    import pyarrow as pa

    half = len(pieces) // 2
    with duckdb.connect(config=ONE_THREAD) as connection:
        for name, found in zip(TABLES, (pieces[:half], pieces[half:]), strict=True):
            connection.register(name, pa.concat_tables(found))
        rows = DuckDbRows(connection, joined)
        if usable is not None:
            rows.use(usable)
        yield connection


def _answer(joined: str, usable: "pa.Table | None", query: str, *pieces: "pa.Table") -> list[tuple[Any, ...]]:
    with _part(joined, usable, pieces) as connection:
        found: list[tuple[Any, ...]] = connection.execute(query).fetchall()
        return found


def _rows(joined: str, usable: "pa.Table | None", query: str, *pieces: "pa.Table") -> "pa.Table":
    with _part(joined, usable, pieces) as connection:
        found: pa.Table = connection.sql(query).to_arrow_table()
        return found
