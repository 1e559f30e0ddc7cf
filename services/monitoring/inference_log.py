"""Reading the inference log: the Delta tables that the archive process writes.

Tables below `Settings.archive_root`, each a folder:

- ``events``: what the applications sent, raw: topic, partition, offset, timestamp_ms, key, value. Heartbeats
  are there with a null value and ``watermark_ms``; of several in a row the one that promises most.
- ``predictions``: one row for each prediction. Features stand in two lists of the same length, in the
  order of the declaration: ``features_number`` (text is null there) and ``features_text`` (numbers are null).
- ``outcomes``: one row for each prediction whose label is known.

Each commit of a table carries, as Delta application transactions, how far each Kafka partition has been
archived; rows and positions can therefore never disagree.

    >>> with inference_log.connect(settings) as log:      # doctest: +SKIP
    ...     log.sql("SELECT version, avg(loss) FROM outcomes GROUP BY ALL").show()
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from services.runtime.settings import Settings

if TYPE_CHECKING:
    import duckdb

EVENTS = "events"
PREDICTIONS = "predictions"
OUTCOMES = "outcomes"
TABLES = (EVENTS, PREDICTIONS, OUTCOMES)


def path(settings: Settings, table: str) -> str:
    """Return the folder or URI of a table."""
    return f"{settings.archive_root.rstrip('/')}/{table}"


def transaction_id(topic: str, partition: int) -> str:
    """Name the application transaction whose version is the next offset of a Kafka partition."""
    return f"{topic}/{partition}"


def tables(settings: Settings, versions: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Open those tables that exist, as `deltalake.DeltaTable` by name, at given versions or the newest."""
    from deltalake import DeltaTable

    wanted = versions or {}
    return {
        name: DeltaTable(path(settings, name), version=wanted.get(name))
        for name in TABLES
        if DeltaTable.is_deltatable(path(settings, name))
    }


def positions(
    settings: Settings, table: str, partitions: Mapping[str, Iterable[int]]
) -> dict[str, dict[int, int]]:
    """Return by topic and partition the offset before which a table holds everything, at least 0."""
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(path(settings, table)):
        return {topic: dict.fromkeys(numbers, 0) for topic, numbers in partitions.items()}
    opened = DeltaTable(path(settings, table))
    return {
        topic: {number: opened.transaction_version(transaction_id(topic, number)) or 0 for number in numbers}
        for topic, numbers in partitions.items()
    }


def connect(settings: Settings, opened: Mapping[str, Any] | None = None) -> "duckdb.DuckDBPyConnection":
    """Return a DuckDB connection in which each table is a view of its own name.

    Args:
        settings: Where the tables are.
        opened: The result of `tables`, when its versions matter; default: the newest.
    """
    import duckdb

    connection = duckdb.connect()
    for name, table in (tables(settings) if opened is None else opened).items():
        connection.register(name, table.to_pyarrow_dataset())
    return connection
