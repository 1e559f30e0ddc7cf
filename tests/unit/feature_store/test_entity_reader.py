"""Distinct entities among rows, and the commands that read them."""

from collections.abc import Sequence
from typing import Any

import pytest

from services.feature_store import feast_layout
from services.feature_store.entity_reader import Entities, EntityGroup
from services.feature_store.plan import Column, ValueType, View, ViewKind
from services.runtime.redis_commands import decode

KEYS = (Column("desk", ValueType.INT64), Column("shop", ValueType.STRING))
VIEW = View("facts", ViewKind.BATCH, KEYS, (Column("width", ValueType.DOUBLE),), 0)


def encoded(shops: Sequence[Any], desks: Sequence[Any], *, detailed: bool = False) -> Entities:
    return EntityGroup("p", [VIEW], detailed=detailed).encode({"shop": shops, "desk": desks})


def test_rows_of_distinct_entities_need_no_indexes() -> None:
    entities = encoded(["mill", "mill", "dock"], [1, 2, 1])
    assert (entities.size, entities.indexes) == (3, None)
    assert entities.inverse.tolist() == [0, 1, 2]
    assert [rows.tolist() for rows in entities.rows] == [[0], [1], [2]]


def test_a_repeated_entity_is_read_once_and_a_row_with_a_null_not_at_all() -> None:
    entities = encoded(["mill", None, "dock", "mill", "mill"], [1, 1, 1, 1, None])
    assert entities.size == 2
    assert entities.inverse.tolist() == [0, -1, 1, 0, -1]
    assert [rows.tolist() for rows in entities.rows] == [[0, 3], [2]]


def test_no_rows_need_no_commands() -> None:
    entities = encoded([], [])
    assert (entities.size, entities.inverse.tolist(), entities.rows) == (0, [], [])


@pytest.mark.parametrize("detailed", [False, True])
def test_a_command_reads_the_features_and_the_time_only_where_the_age_is_wanted(*, detailed: bool) -> None:
    entities = encoded(["mill"], [7], detailed=detailed)
    key = feast_layout.entity_key_encoder("p", KEYS)((7, "mill"))
    fields = [feast_layout.feature_field("facts", "width")]
    if detailed:
        fields.append(feast_layout.timestamp_field("facts"))
    assert list(decode(entities.commands)) == [("HMGET", key, *fields)]


def test_a_missing_entity_column_is_named() -> None:
    with pytest.raises(KeyError, match="desk"):
        EntityGroup("p", [VIEW], detailed=False).encode({"shop": ["mill"]})
