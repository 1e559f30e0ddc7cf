"""Which views a replay means, and what is said of one that is being built."""

import pytest

from services.feature_store.plan import Column, FeaturePlan, Kind, PlanError, ValueType, View
from services.features.catch_up import Building
from services.features.generations import definition_of
from services.features.replay import chosen

STREAM = View("stream", Kind.LATEST, (Column("id", ValueType.STRING),), (), ttl_ms=0)
BATCH = View("batch", Kind.BATCH, (Column("id", ValueType.STRING),), (), ttl_ms=0)
PLAN = FeaturePlan("p", (STREAM, BATCH), {})


def test_all_stream_views_are_meant_unless_some_are_named() -> None:
    assert chosen(PLAN, []) == ["stream"]
    assert chosen(PLAN, ["stream"]) == ["stream"]


@pytest.mark.parametrize("name", ["batch", "nowhere"])
def test_a_view_without_a_stream_is_refused_by_name(name: str) -> None:
    with pytest.raises(PlanError, match=f"no stream view '{name}'; known are stream"):
        chosen(PLAN, [name])


def test_how_far_a_build_is_is_told_over_all_partitions() -> None:
    building = Building(30, 100, 0).plus(Building(20, 100, 7))
    assert str(building) == "50 of 200 records to go (75% done), 7 were removed"


def test_a_time_to_live_is_no_part_of_a_definition_and_the_project_is() -> None:
    longer = View("stream", Kind.LATEST, (Column("id", ValueType.STRING),), (), ttl_ms=9)
    assert definition_of("p", longer) == definition_of("p", STREAM)
    assert definition_of("q", STREAM) != definition_of("p", STREAM)
    assert definition_of("p", BATCH) != definition_of("p", STREAM)
