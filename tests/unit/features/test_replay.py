"""Which views a replay selects."""

import pytest

from services.feature_store.plan import Column, FeaturePlan, PlanError, ValueType, View, ViewKind
from services.features.replay import select_views

STREAM = View("stream", ViewKind.LATEST, (Column("id", ValueType.STRING),), (), ttl_ms=0)
BATCH = View("batch", ViewKind.BATCH, (Column("id", ValueType.STRING),), (), ttl_ms=0)
PLAN = FeaturePlan("p", (STREAM, BATCH), {})


def test_all_stream_views_are_selected_by_default() -> None:
    assert select_views(PLAN, []) == ["stream"]
    assert select_views(PLAN, ["stream"]) == ["stream"]


@pytest.mark.parametrize("name", ["batch", "nowhere"])
def test_view_without_a_stream_is_refused_by_name(name: str) -> None:
    with pytest.raises(PlanError, match=f"no stream view '{name}'; known are stream"):
        select_views(PLAN, [name])
