"""Reading the inference log: the Delta tables that the archive process writes.

Tables below `Settings.archive_root`, each a folder:

- ``events``: the raw records of the applications: topic, partition, offset, timestamp_ms, key, value. A
  heartbeat has a null value and ``watermark_ms``; of consecutive heartbeats only the highest is archived.
- ``predictions``: one row for each prediction. Features are two lists of the same length:
  ``features_number`` (null for a text) and ``features_text`` (null for a number); ``feature_set`` stands for
  their names and definitions, which are in the models topic (`streams.feature_sets`). Multiclass:
  ``predicted_class``, and ``probabilities`` in the order of the declared classes.
- ``ledger``: one row for each record of the ledger topic, with its text in ``record``. It is not opened with
  the others: their versions are the version of a training set.
- ``outcomes``: one row for each prediction whose label is known, and one more for each later label that
  corrects it: of the rows with one ``prediction_id`` and ``event_time_ms`` the one with the highest
  ``correction`` counts (null: 0), and ``corrected_label`` is the label that it replaces. Multiclass:
  ``class_name`` is the true class; ``cost`` where model.yaml declares costs; ``definition`` is a digest of
  what the label means (`services.monitoring.label_definition`).

Of predictions with one id within the label horizon the first counts, see `services.monitoring.label_join`; an
outcome names it by id and event time.

Rows written before a column existed have null there; until the archive has been restarted, an old table does
not have the column at all.

Each commit of a table carries, as Delta application transactions, how far each Kafka partition has been
archived. Rows and positions therefore always agree.

    >>> with inference_log.connect(settings) as log:      # doctest: +SKIP
    ...     log.sql("SELECT version, avg(loss) FROM outcomes GROUP BY ALL").show()
"""

from collections.abc import Iterable, Mapping

import duckdb
from deltalake import DeltaTable

from services.runtime.settings import Settings

EVENTS = "events"
PREDICTIONS = "predictions"
OUTCOMES = "outcomes"
LEDGER = "ledger"
TABLES = (EVENTS, PREDICTIONS, OUTCOMES)


def path(settings: Settings, table: str) -> str:
    """Return the folder or URI of a table."""
    return f"{settings.archive_root.rstrip('/')}/{table}"


def transaction_id(topic: str, partition: int) -> str:
    """Return the id of the application transaction whose version is the next offset of a Kafka partition."""
    return f"{topic}/{partition}"


def tables(settings: Settings, versions: Mapping[str, int] | None = None) -> dict[str, DeltaTable]:
    """Open the tables that exist, as `deltalake.DeltaTable` by name, at the given versions or the latest."""
    wanted = versions or {}
    return {
        name: DeltaTable(path(settings, name), version=wanted.get(name))
        for name in TABLES
        if DeltaTable.is_deltatable(path(settings, name))
    }


def positions(
    settings: Settings, table: str, partitions: Mapping[str, Iterable[int]]
) -> dict[str, dict[int, int]]:
    """Return, by topic and partition, the next offset that is not in a table yet; 0 without a table."""
    if not DeltaTable.is_deltatable(path(settings, table)):
        return {topic: dict.fromkeys(numbers, 0) for topic, numbers in partitions.items()}
    opened = DeltaTable(path(settings, table))
    return {
        topic: {number: opened.transaction_version(transaction_id(topic, number)) or 0 for number in numbers}
        for topic, numbers in partitions.items()
    }


def connect(settings: Settings, opened: Mapping[str, DeltaTable] | None = None) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection in which each table is a view of the same name.

    Args:
        settings: Where the tables are.
        opened: The result of `tables`, for given versions; default: the latest.
    """
    connection = duckdb.connect()
    for name, table in (tables(settings) if opened is None else opened).items():
        connection.register(name, table.to_pyarrow_dataset())
    return connection
