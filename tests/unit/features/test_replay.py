"""Which views a replay means, and what is said of one that is being built."""

import pytest

from services.feature_store.plan import Column, FeaturePlan, PlanError, ValueType, View, ViewKind
from services.features.catch_up import BuildProgress
from services.features.generations import definition_digest
from services.features.replay import select_views

STREAM = View("stream", ViewKind.LATEST, (Column("id", ValueType.STRING),), (), ttl_ms=0)
BATCH = View("batch", ViewKind.BATCH, (Column("id", ValueType.STRING),), (), ttl_ms=0)
PLAN = FeaturePlan("p", (STREAM, BATCH), {})


def test_all_stream_views_are_meant_unless_some_are_named() -> None:
    assert select_views(PLAN, []) == ["stream"]
    assert select_views(PLAN, ["stream"]) == ["stream"]


@pytest.mark.parametrize("name", ["batch", "nowhere"])
def test_a_view_without_a_stream_is_refused_by_name(name: str) -> None:
    with pytest.raises(PlanError, match=f"no stream view '{name}'; known are stream"):
        select_views(PLAN, [name])


def test_how_far_a_build_is_is_told_over_all_partitions() -> None:
    building = BuildProgress(30, 100, 0).plus(BuildProgress(20, 100, 7))
    assert str(building) == "50 of 200 records left (75% done); retention deleted 7 records"


def test_a_time_to_live_is_no_part_of_a_definition_and_the_project_is() -> None:
    longer = View("stream", ViewKind.LATEST, (Column("id", ValueType.STRING),), (), ttl_ms=9)
    assert definition_digest("p", longer) == definition_digest("p", STREAM)
    assert definition_digest("q", STREAM) != definition_digest("p", STREAM)
    assert definition_digest("p", BATCH) != definition_digest("p", STREAM)
