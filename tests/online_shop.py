"""A plan with a shop's orders (stream view) and a desk's facts (batch view), and the online API over it."""

from typing import Any

from starlette.testclient import TestClient

from services.feature_store.plan import (
    Column,
    FeatureAggregation,
    FeaturePlan,
    ServiceFeature,
    ValueType,
    View,
    ViewKind,
)
from services.features.api import OnlineFeatures
from services.runtime.settings import Settings
from services.runtime.web import server

HOUR_MS = 3_600_000
NOON_MS = 1_372_680_000_000
PROJECT = "api"
SHOP, DESK = Column("shop", ValueType.STRING), Column("desk", ValueType.INT32)
ORDERS = View(
    "orders",
    ViewKind.WINDOWED,
    (SHOP,),
    (Column("count", ValueType.INT64), Column("sum", ValueType.DOUBLE)),
    3 * HOUR_MS,
    None,
    (
        FeatureAggregation("count", "amount", "count", HOUR_MS),
        FeatureAggregation("sum", "amount", "sum", HOUR_MS),
    ),
    60_000,
)
FACTS = View(
    "facts",
    ViewKind.BATCH,
    (DESK, SHOP),
    (
        Column("count", ValueType.INT64),
        Column("raw", ValueType.BYTES),
        Column("sizes", ValueType.DOUBLE_LIST),
        Column("oak", ValueType.BOOL),
    ),
    0,
)
PLAN = FeaturePlan(
    PROJECT,
    (FACTS, ORDERS),
    {"shop": (ServiceFeature("orders", "sum"), ServiceFeature("orders", "count"))},
)
NOON = {"event_time": "2013-07-01T12:00:00Z"}
ALL = ["orders:count", "facts:count", "facts:raw", "facts:sizes", "facts:oak"]


def application(url: str, **changes: Any) -> Any:
    """Return the application over the online store at an address."""
    options = Settings(redis_url=url, **changes)
    return server.application(lambda: None, OnlineFeatures(options, PLAN).routes(), options.feature_tokens)


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/get-online-features", json=body)
