"""One FeatureService as commands and replies."""

from typing import Any

import numpy as np

from services.feature_store.plan import Column, ServiceFeature, ServicePlan, ValueType, View, ViewKind
from services.feature_store.service_codec import ServiceCodec
from services.runtime.redis_commands import decode

SHOP, DESK = (Column("shop", ValueType.STRING),), (Column("desk", ValueType.INT64),)
WIDTH = (Column("width", ValueType.DOUBLE),)
VIEWS = tuple(
    View(name, ViewKind.BATCH, keys, WIDTH, 0) for name, keys in (("a", SHOP), ("b", DESK), ("c", SHOP))
)
SERVICE = ServicePlan("s", "p", tuple(ServiceFeature(view.name, "width") for view in VIEWS), VIEWS)
TIMES_MS = np.array([0, 0])
COLUMNS: dict[str, list[Any]] = {"shop": ["mill", "dock"], "desk": [1, 1]}


def test_views_of_one_entity_are_read_with_one_command() -> None:
    request = ServiceCodec(SERVICE, detailed=False).encode(COLUMNS, TIMES_MS)
    watermarks, rows = request.batches
    assert watermarks == []
    assert [len(arguments) - 2 for _, *arguments in decode(rows)] == [1, 1, 0]
    assert [entities.size for entities in request.entities] == [2, 1]


def test_detailed_columns_are_named_by_view_and_feature() -> None:
    codec = ServiceCodec(SERVICE, detailed=True)
    request = codec.encode(COLUMNS, TIMES_MS)
    served = codec.decode(request, [[None] * 4, [None] * 4, [None] * 2])
    assert list(served.columns) == ["a__width", "b__width", "c__width"]
    assert set(served.views) == {"a", "b", "c"}


def test_without_stream_views_there_is_no_lag() -> None:
    codec = ServiceCodec(SERVICE, detailed=False)
    served = codec.decode(codec.encode(COLUMNS, TIMES_MS), [[None] * 2, [None] * 2, [None]])
    assert served.lag_ms.tolist() == [0, 0]
    assert (served.watermarks_ms, served.beyond_retention) == ({}, 0)
