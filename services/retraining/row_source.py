"""The rows of a training set in SQL, and what runs it: DuckDB on one machine.

A row depends on the predictions and outcomes with its id alone. So the same queries run on parts of the two
tables that hold all rows of some ids, and the results are added up: see `services.retraining.ray_rows`.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

SLICE_ROWS = 65_536
"""Rows in memory at once; a row of 500 features is 8 KiB."""

LABELLED = """
    SELECT p.prediction_id, p.event_time_ms, o.label_time_ms, o.label, p.features_number, p.features_text,
           coalesce({feature_set}, '') AS feature_set, len(p.features_number) AS width,
           p.partition AS request_partition, p.offset AS request_offset, o.source_offset AS label_offset,
           coalesce({correction}, 0) AS correction,
           p.version IS DISTINCT FROM o.version OR p.arm IS DISTINCT FROM o.arm
           OR p.score IS DISTINCT FROM o.score AS differs,
           coalesce({definition}, '') IN ('', '{label_definition}')
           AND o.label_time_ms - p.event_time_ms BETWEEN 0 AND {waits_ms} AS fits,
           p.event_time_ms <= {mature_ms} AS is_mature
    FROM predictions p JOIN outcomes o USING (prediction_id, event_time_ms)
    WHERE p.model = '{model}' AND o.model = '{model}' AND o.label_time_ms <= {known_ms}
"""
"""The predictions whose label was known."""
IMPLIED = """
    SELECT p.prediction_id, p.event_time_ms, p.event_time_ms + {horizon_ms} AS label_time_ms,
           {absent} AS label, p.features_number, p.features_text,
           coalesce({feature_set}, '') AS feature_set, len(p.features_number) AS width,
           p.partition AS request_partition, p.offset AS request_offset, -1 AS label_offset, 0 AS correction,
           false AS differs, true AS fits, true AS is_mature
    FROM (
        SELECT *, max(event_time_ms) OVER (
            PARTITION BY prediction_id ORDER BY event_time_ms
            RANGE BETWEEN {waits_ms} PRECEDING AND 1 PRECEDING
        ) AS asked_before_ms
        FROM predictions WHERE model = '{model}'
    ) p
    WHERE p.event_time_ms <= {mature_ms} AND p.asked_before_ms IS NULL AND NOT EXISTS (
        SELECT 1 FROM outcomes o
        WHERE o.model = '{model}' AND o.prediction_id = p.prediction_id AND o.label_time_ms <= {known_ms}
        AND o.event_time_ms BETWEEN p.event_time_ms - {waits_ms} AND p.event_time_ms + {waits_ms}
    )
"""
"""The predictions whose label is that of ``label.absent``: their horizon has passed and no label was known.
If an id was asked again, the first request has it."""
KINDS = "SELECT feature_set, width, fits, is_mature, count(*) AS count FROM joined GROUP BY ALL"
CHOSEN = """
    CREATE TEMP VIEW chosen AS
    SELECT prediction_id, event_time_ms, label_time_ms, label, features_number, features_text, feature_set
    FROM joined JOIN usable USING (feature_set, width)
    WHERE fits AND is_mature
    QUALIFY row_number() OVER (
        PARTITION BY prediction_id, event_time_ms
        ORDER BY correction DESC, differs, label_time_ms, request_partition, request_offset, label_offset
    ) = 1
"""
"""The first row of each id and event time counts: its last label that was known then. An outcome has the id
and the event time of the prediction with which drift has joined the label, so one that was asked again has
none. Of two that were asked for at the same time, the outcome's version, arm and score tell which it is."""
LATEST = """
    SELECT * FROM chosen WHERE event_time_ms >= {from_ms}
    ORDER BY event_time_ms DESC, prediction_id DESC LIMIT {rows_max}
"""
SPAN = """
    SELECT count(*), max(event_time_ms) FROM (
        SELECT DISTINCT prediction_id, event_time_ms FROM joined JOIN usable USING (feature_set, width)
        WHERE fits AND is_mature AND event_time_ms >= {from_ms}
    )
"""
ORDER = ("event_time_ms", "prediction_id")


class RowCount(NamedTuple):
    """Number of rows that are alike in all that decides whether they are used."""

    feature_set: str
    width: int
    fits: bool
    is_mature: bool
    rows: int


class RowSource(Protocol):
    """Runs the queries above."""

    def kinds(self) -> list[RowCount]:
        """Return the kinds of all labelled rows."""

    def use(self, usable: "pa.Table") -> None:
        """Take the kinds that can be read: columns feature_set and width. What follows counts only these."""

    def span(self, from_ms: int) -> tuple[int, int]:
        """Return the number of usable rows from an event time on, and their last event time."""

    def ordered(self, from_ms: int, rows_max: int) -> Iterable["pa.RecordBatch"]:
        """Yield the latest usable rows from an event time on, in the order of event time and id."""


class DuckDbRows:
    """Runs the queries in one connection."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection", joined: str) -> None:
        """Take a connection with the views ``predictions`` and ``outcomes``, and the text of ``joined``."""
        self._connection = connection
        connection.execute(joined)

    def kinds(self) -> list[RowCount]:
        """Return the kinds of all labelled rows."""
        return [RowCount(*row) for row in self._connection.execute(KINDS).fetchall()]

    def use(self, usable: "pa.Table") -> None:
        """Take the kinds that can be read."""
        self._connection.register("usable", usable)
        self._connection.execute(CHOSEN)

    def span(self, from_ms: int) -> tuple[int, int]:
        """Return the number of usable rows from an event time on, and their last event time."""
        ((rows, last_ms),) = self._connection.execute(SPAN.format(from_ms=from_ms)).fetchall()
        return rows, last_ms or 0

    def ordered(self, from_ms: int, rows_max: int) -> Iterable["pa.RecordBatch"]:
        """Yield the latest usable rows from an event time on, in order."""
        latest = LATEST.format(from_ms=from_ms, rows_max=rows_max)
        reader: Iterable[pa.RecordBatch] = self._connection.sql(
            f"SELECT * FROM ({latest}) ORDER BY {', '.join(ORDER)}"  # noqa: S608  # two numbers and own names
        ).to_arrow_reader(SLICE_ROWS)
        return reader


def sum_of(parts: Iterable[Sequence[Any]]) -> list[RowCount]:
    """Return the kinds of all parts: those that are equal become one, with the sum of their rows."""
    sums: dict[tuple[Any, ...], int] = {}
    for *kind, rows in parts:
        sums[tuple(kind)] = sums.get(tuple(kind), 0) + rows
    return [RowCount._make((*kind, rows)) for kind, rows in sums.items()]
