"""What the online store held of a batch view when a request was served, from the file of its source.

Feast writes, with each materialisation, the newest row of each entity within a range of row times. So the
store holds the newest of all rows that were taken so far, whatever their times are to that of the request.
Feast records the ranges but not when it wrote them. Known is

- by when all of those were done that a pass of the check saw: what was scored after that had them;
- that none was done before the end of its range.

Between the two bounds a served row may be any that the store can have held; outside them there is one.
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
import pyarrow.dataset as ds

from services.feature_store.plan import BatchFile, Column, Materialized, ValueType, View
from services.features.offline.archived_events import ArchiveError
from services.features.offline.skew import Result, judged
from services.features.view_state import Entity
from streams import codec
from streams.records import FeatureValue

SEEN_MAX = 100
"""Materialisations whose end is remembered; what was scored before the oldest is judged less strictly."""
READING_MS = 5000
"""A request is scored at most so long after its features were read."""
_KEY_TYPES = {
    ValueType.STRING: pa.string(),
    ValueType.INT32: pa.int32(),
    ValueType.INT64: pa.int64(),
}

Seen = list[tuple[int, int]]
"""How many materialisations there were, and the wall time in ms by which they were done; in order."""


@dataclasses.dataclass(frozen=True)
class Question:
    """One request: its values of the view's join keys, and what it was served of the view."""

    entity: Entity
    event_time_ms: int
    scored_time_ms: int
    served: Sequence[FeatureValue]


class Bounds(NamedTuple):
    """How many materialisations had certainly been done, and how many can have been."""

    certain: int
    possible: int


class _Held(NamedTuple):
    """A row that the store held from a materialisation on."""

    number: int
    """Of the materialisation, from 1."""
    time_ms: int
    values: list[FeatureValue]


def see(seen: Seen, materialized: Materialized) -> Seen:
    """Return what is remembered after a look at the registry."""
    count = len(materialized.ranges_us)
    if seen and seen[-1][0] > count:
        seen = []  # another registry
    if seen and seen[-1][0] == count:
        return seen
    return [*seen, (count, materialized.by_ms)][-SEEN_MAX:]


def bounds(seen: Seen, materialized: Materialized, scored_times_ms: Sequence[int]) -> list[Bounds]:
    """Return which materialisations the requests that were scored at these wall times can have seen."""
    scored_ms = np.array(scored_times_ms, dtype=np.int64)
    counts = np.array([0, *(count for count, _ in seen)])
    certain = counts[np.searchsorted([by_ms for _, by_ms in seen], scored_ms - READING_MS, side="right")]
    ends_us = np.array([end_us for _, end_us in materialized.ranges_us], dtype=np.int64)
    # Of one that can have been done, all before it can.
    least_us = np.minimum.accumulate(ends_us[::-1])[::-1]
    possible = np.maximum(certain, np.searchsorted(least_us, scored_ms * 1000, side="right"))
    return [Bounds(*pair) for pair in zip(certain.tolist(), possible.tolist(), strict=True)]


def recompute(
    connection: Any,
    view: View,
    features: Sequence[Column],
    materialized: Materialized,
    seen: Seen,
    asked: Sequence[Question],
) -> list[list[FeatureValue]] | None:
    """Return for each request the values that it should have been served; None if the file is not there.

    Of several rows that the store can have held, it is the one that was served, else the last.

    Args:
        connection: Of DuckDB.
        view: With a file.
        features: Those of the view that are served, in the order of `Question.served`.
        materialized: What the registry says now.
        seen: The result of `see`.
        asked: The requests.
    """
    file = view.batch_file
    if file is None or not Path(file.path).exists():
        return None
    limits = bounds(seen, materialized, [question.scored_time_ms for question in asked])
    ranges = _ranges(materialized, min(limit.certain for limit in limits))
    held = _held(connection, view, file, features, ranges, {question.entity for question in asked})
    return [
        _nearest(view.ttl_ms, held.get(question.entity, ()), limit, question, len(features))
        for question, limit in zip(asked, limits, strict=True)
    ]


def _ranges(materialized: Materialized, certain: int) -> pa.Table:
    """Return the ranges with their numbers; those that all requests have seen count as one."""
    numbers = [max(number, certain) for number in range(1, len(materialized.ranges_us) + 1)]
    starts, ends = zip(*materialized.ranges_us, strict=True)
    return pa.table({"number": numbers, "start_us": starts, "end_us": ends})


def _held(
    connection: Any,
    view: View,
    file: BatchFile,
    features: Sequence[Column],
    ranges: pa.Table,
    entities: Iterable[Entity],
) -> Mapping[Entity, Sequence[_Held]]:
    """Return by entity the rows that the store has held one after the other."""
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
    found: dict[Entity, list[_Held]] = {}
    for row in rows:
        own = [_served(column.type, value) for column, value in zip(features, row[width + 2 :], strict=True)]
        found.setdefault(row[:width], []).append(_Held(row[width], row[width + 1] // 1000, own))
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
    """Return the rows that were the newest of their entity when they were first written, in order."""
    entity, columns = ", ".join(keys), ", ".join([*keys, "number", "at_us", *values])
    return f"""
        WITH written AS (
            SELECT *, (SELECT min(number) FROM batch_ranges WHERE at_us BETWEEN start_us AND end_us) AS number
            FROM batch_rows SEMI JOIN batch_entities USING ({entity})
        )
        SELECT {columns} FROM written WHERE number IS NOT NULL
        QUALIFY at_us = max(at_us) OVER (PARTITION BY {entity} ORDER BY number)
        ORDER BY number, at_us
    """  # noqa: S608  # names of ours


def _scanner(
    file: BatchFile,
    join_keys: Sequence[Column],
    features: Sequence[Column],
    keys: Sequence[str],
    values: Sequence[str],
) -> ds.Scanner:
    """Read the file under names of ours, times as microseconds."""
    at = ds.field(file.timestamp_field).cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    named = {"at_us": at}
    for name, column in zip(keys, join_keys, strict=True):
        named[name] = ds.field(column.name).cast(_KEY_TYPES[column.type])
    for name, column in zip(values, features, strict=True):
        named[name] = ds.field(column.name)
    return ds.dataset(file.path, format="parquet").scanner(columns=named, use_threads=False)


def _entities(view: View, keys: Sequence[str], entities: Iterable[Entity]) -> pa.Table:
    columns = zip(*entities, strict=True)
    return pa.table(
        {
            name: pa.array(column, _KEY_TYPES[key.type])
            for name, key, column in zip(keys, view.join_keys, columns, strict=True)
        }
    )


def _nearest(
    ttl_ms: int, held: Sequence[_Held], limit: Bounds, question: Question, width: int
) -> list[FeatureValue]:
    """Choose among the rows that the store can have held."""
    first = _first(held, limit.certain)
    candidates = [row for row in held[first:] if row.number <= limit.possible]
    rows = [_visible(ttl_ms, row, question.event_time_ms) for row in candidates]
    if not held or held[first].number > limit.certain:
        rows.insert(0, [None] * width)  # before the entity's first row
    return next((row for row in rows if _is_served(row, question.served)), rows[-1])


def _first(held: Sequence[_Held], certain: int) -> int:
    """Return the place of the row that certainly had been written last, or of the first one."""
    behind = bisect.bisect_right(held, certain, key=lambda row: row.number)
    if not behind:
        return 0
    return bisect.bisect_left(held, held[behind - 1].number, key=lambda row: row.number)


def _visible(ttl_ms: int, row: _Held, event_time_ms: int) -> list[FeatureValue]:
    """Hide what is older than the time to live, as readers do."""
    stale = ttl_ms and event_time_ms - row.time_ms > ttl_ms
    return [None] * len(row.values) if stale else row.values


def _is_served(row: Sequence[FeatureValue], served: Sequence[FeatureValue]) -> bool:
    return all(judged(was, value) is Result.EQUAL for was, value in zip(served, row, strict=True))


def _served(kind: ValueType, value: Any) -> FeatureValue:
    """Return a value of the file as a prediction carries it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return float(codec.epoch_ms(aware) // 1000)
    number = float(np.float32(value)) if kind is ValueType.FLOAT else float(value)
    return None if math.isnan(number) else number
