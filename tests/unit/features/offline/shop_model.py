"""A model whose features are two views of the orders of a shop."""

from services.feature_store.plan import (
    Column,
    FeatureAggregation,
    FeaturePlan,
    ServiceFeature,
    ValueType,
    View,
    ViewKind,
)
from services.runtime.declaration import ModelDeclaration
from tests.unit.features.offline.archived_orders import SOURCE

SHOP = (Column("shop", ValueType.STRING),)
VIEW = View(
    name="by_shop",
    kind=ViewKind.WINDOWED,
    join_keys=SHOP,
    features=(Column("total", ValueType.DOUBLE), Column("orders", ValueType.INT64)),
    ttl_ms=0,
    source=SOURCE,
    aggregations=(
        FeatureAggregation("total", "amount", "sum", 60_000),
        FeatureAggregation("orders", "amount", "count", 60_000),
    ),
    hop_ms=10_000,
)
LAST = View(
    name="last_of_shop",
    kind=ViewKind.LATEST,
    join_keys=SHOP,
    features=(Column("amount", ValueType.DOUBLE),),
    ttl_ms=0,
    source=SOURCE,
)
MODEL = ModelDeclaration.model_validate(
    {
        "name": "m",
        "owner": "tests",
        "task": "binary",
        "request": {
            "topic": "asked",
            "id": "id",
            "event_time": "at",
            "schema": {"id": "string", "at": "timestamp", "shop": "string"},
        },
        "features": {"service": "all", "from_request": []},
        "label": {
            "topic": "labels",
            "id": "id",
            "event_time": "at",
            "value": "truth",
            "positive_above": 0.5,
            "horizon_hours": 1,
            "schema": {"id": "string", "at": "timestamp", "truth": "float"},
        },
        "gates": {"floor": 0.7},
    }
)
PLAN = FeaturePlan(
    "p",
    (VIEW, LAST),
    {"all": tuple(ServiceFeature(view.name, name) for view in (VIEW, LAST) for name in view.feature_names)},
)
