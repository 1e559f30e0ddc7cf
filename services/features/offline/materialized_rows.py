"""The row of a batch view that the online store held when a request was served, from the file of its source.

Each materialisation of Feast writes the newest row of each entity within a range of row times. So the store
holds the newest of all rows written so far, even if it is newer than the request. Feast records the ranges
but not when it wrote them. Two facts are known:

- the wall time by which all materialisations that a pass of the check saw were done: requests scored later
  had them;
- no materialisation was done before the end of its range.

Between the two bounds, a served row may be any row that the store can have held; outside them it is
determined.
"""

import bisect
import dataclasses
import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.feature_store.plan import BatchFile, Column, Materialized, ValueType, View
from services.features.offline.archived_events import ArchiveError
from services.features.offline.skew_report import ComparisonResult, compare_values
from services.features.view_state import Entity
from streams import codec
from streams.records import FeatureValue

SEEN_MAX = 100
"""Maximum remembered materialisations; requests scored before the oldest are compared less strictly."""
READING_MS = 5000
"""Maximum time between reading the features of a request and scoring it."""
_KEY_TYPES = {
    ValueType.STRING: pa.string(),
    ValueType.INT32: pa.int32(),
    ValueType.INT64: pa.int64(),
}

Seen = list[tuple[int, int]]
"""Pairs of a number of materialisations and the wall time in ms by which they were done; in order."""


@dataclasses.dataclass(frozen=True)
class BatchLookup:
    """One request to a batch view: the entity, and the values that were served."""

    entity: Entity
    event_time_ms: int
    scored_time_ms: int
    served: Sequence[FeatureValue]


class MaterializationBounds(NamedTuple):
    """How many materialisations were done when a request was served."""

    certain: int
    """Number that were certainly done."""
    possible: int
    """Number that may have been done."""


class _StoredRow(NamedTuple):
    """A row that the store held after a materialisation."""

    number: int
    """Number of the materialisation, from 1."""
    time_ms: int
    values: list[FeatureValue]


def record_seen(seen: Seen, materialized: Materialized) -> Seen:
    """Return the list extended by the current state of the registry."""
    count = len(materialized.ranges_us)
    if seen and seen[-1][0] > count:
        seen = []  # the registry was replaced
    if seen and seen[-1][0] == count:
        return seen
    return [*seen, (count, materialized.by_ms)][-SEEN_MAX:]


def bounds(
    seen: Seen, materialized: Materialized, scored_times_ms: Sequence[int]
) -> list[MaterializationBounds]:
    """Return the bounds for requests that were scored at these wall times in ms."""
    scored_ms = np.array(scored_times_ms, dtype=np.int64)
    counts = np.array([0, *(count for count, _ in seen)])
    certain = counts[np.searchsorted([by_ms for _, by_ms in seen], scored_ms - READING_MS, side="right")]
    ends_us = np.array([end_us for _, end_us in materialized.ranges_us], dtype=np.int64)
    # If a materialisation may have been done, so may all before it.
    least_us = np.minimum.accumulate(ends_us[::-1])[::-1]
    possible = np.maximum(certain, np.searchsorted(least_us, scored_ms * 1000, side="right"))
    return [MaterializationBounds(*pair) for pair in zip(certain.tolist(), possible.tolist(), strict=True)]


def recompute(
    connection: Any,
    view: View,
    features: Sequence[Column],
    materialized: Materialized,
    seen: Seen,
    lookups: Sequence[BatchLookup],
) -> list[list[FeatureValue]] | None:
    """Return the values that each request should have been served; None if the file does not exist.

    If the store can have held several rows, return the one that was served, else the last one.

    Args:
        connection: A DuckDB connection.
        view: A view with a file.
        features: The served features of the view, in the order of `BatchLookup.served`.
        materialized: The materialisations in the registry.
        seen: The result of `record_seen`.
        lookups: The requests.
    """
    file = view.batch_file
    if file is None or not Path(file.path).exists():
        return None
    limits = bounds(seen, materialized, [lookup.scored_time_ms for lookup in lookups])
    ranges = _ranges(materialized, min(limit.certain for limit in limits))
    rows = _stored_rows(connection, view, file, features, ranges, {lookup.entity for lookup in lookups})
    return [
        _best_match(view.ttl_ms, rows.get(lookup.entity, ()), limit, lookup, len(features))
        for lookup, limit in zip(lookups, limits, strict=True)
    ]


def _ranges(materialized: Materialized, certain: int) -> pa.Table:
    """Return the ranges with their numbers; those that were done before all requests share one number."""
    numbers = [max(number, certain) for number in range(1, len(materialized.ranges_us) + 1)]
    starts, ends = zip(*materialized.ranges_us, strict=True)
    return pa.table({"number": numbers, "start_us": starts, "end_us": ends})


def _stored_rows(
    connection: Any,
    view: View,
    file: BatchFile,
    features: Sequence[Column],
    ranges: pa.Table,
    entities: Iterable[Entity],
) -> Mapping[Entity, Sequence[_StoredRow]]:
    """Return the rows that the store has held, in order, by entity."""
    keys = [f"key_{index}" for index in range(len(view.join_keys))]
    values = [f"value_{index}" for index in range(len(features))]
    try:
        relations = {
            "batch_rows": _scanner(file, view.join_keys, features, keys, values).to_reader(),
            "batch_ranges": ranges,
            "batch_entities": _entities(view, keys, entities),
        }
        rows = _fetch(connection, relations, _query(keys, values))
    except (pa.ArrowException, duckdb.Error) as error:
        raise ArchiveError(f"view {view.name!r}: batch source {file.path}: {error}") from error
    width = len(keys)
    found: dict[Entity, list[_StoredRow]] = {}
    for row in rows:
        values_of_row = zip(features, row[width + 2 :], strict=True)
        served = [_as_served(column.type, value) for column, value in values_of_row]
        found.setdefault(row[:width], []).append(_StoredRow(row[width], row[width + 1] // 1000, served))
    return found


def _fetch(connection: Any, relations: Mapping[str, Any], query: str) -> list[Any]:
    for name, relation in relations.items():
        connection.register(name, relation)
    try:
        rows: list[Any] = connection.sql(query).fetchall()
    finally:
        for name in relations:
            connection.unregister(name)
    return rows


def _query(keys: Sequence[str], values: Sequence[str]) -> str:
    """Return the query for the rows that were the newest of their entity when first written, in order."""
    entity, columns = ", ".join(keys), ", ".join([*keys, "number", "at_us", *values])
    return f"""
        WITH written AS (
            SELECT *, (SELECT min(number) FROM batch_ranges WHERE at_us BETWEEN start_us AND end_us) AS number
            FROM batch_rows SEMI JOIN batch_entities USING ({entity})
        )
        SELECT {columns} FROM written WHERE number IS NOT NULL
        QUALIFY at_us = max(at_us) OVER (PARTITION BY {entity} ORDER BY number)
        ORDER BY number, at_us
    """  # noqa: S608  # names from this module


def _scanner(
    file: BatchFile,
    join_keys: Sequence[Column],
    features: Sequence[Column],
    keys: Sequence[str],
    values: Sequence[str],
) -> Any:
    """Return a `pyarrow.dataset.Scanner` of the file with renamed columns, times as microseconds."""
    import pyarrow.dataset as ds  # late: imports pandas, 1 s

    at = pc.field(file.timestamp_field).cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    named = {"at_us": at}
    for name, column in zip(keys, join_keys, strict=True):
        named[name] = pc.field(column.name).cast(_KEY_TYPES[column.type])
    for name, column in zip(values, features, strict=True):
        named[name] = pc.field(column.name)
    return ds.dataset(file.path, format="parquet").scanner(columns=named, use_threads=False)


def _entities(view: View, keys: Sequence[str], entities: Iterable[Entity]) -> pa.Table:
    columns = zip(*entities, strict=True)
    return pa.table(
        {
            name: pa.array(column, _KEY_TYPES[key.type])
            for name, key, column in zip(keys, view.join_keys, columns, strict=True)
        }
    )


def _best_match(
    ttl_ms: int, stored: Sequence[_StoredRow], limit: MaterializationBounds, lookup: BatchLookup, width: int
) -> list[FeatureValue]:
    """Return the served row if the store can have held it, else the last row that it can have held."""
    start = _last_certain(stored, limit.certain)
    candidates = [row for row in stored[start:] if row.number <= limit.possible]
    rows = [_visible(ttl_ms, row, lookup.event_time_ms) for row in candidates]
    if not stored or stored[start].number > limit.certain:
        rows.insert(0, [None] * width)  # before the entity's first row
    return next((row for row in rows if _is_served(row, lookup.served)), rows[-1])


def _last_certain(stored: Sequence[_StoredRow], certain: int) -> int:
    """Return the index of the first row of the last materialisation certainly done; 0 if there is none."""
    stop = bisect.bisect_right(stored, certain, key=lambda row: row.number)
    if not stop:
        return 0
    return bisect.bisect_left(stored, stored[stop - 1].number, key=lambda row: row.number)


def _visible(ttl_ms: int, row: _StoredRow, event_time_ms: int) -> list[FeatureValue]:
    """Return null values if the row is older than the time to live, as readers do."""
    stale = ttl_ms and event_time_ms - row.time_ms > ttl_ms
    return [None] * len(row.values) if stale else row.values


def _is_served(row: Sequence[FeatureValue], served: Sequence[FeatureValue]) -> bool:
    return all(
        compare_values(was, value) is ComparisonResult.EQUAL for was, value in zip(served, row, strict=True)
    )


def _as_served(kind: ValueType, value: Any) -> FeatureValue:
    """Return a value of the file in the form of a prediction's features."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return float(codec.epoch_ms(aware) // 1000)
    number = float(np.float32(value)) if kind is ValueType.FLOAT else float(value)
    return None if math.isnan(number) else number
