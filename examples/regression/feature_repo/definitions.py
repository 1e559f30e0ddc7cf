"""How fast a restaurant's orders have been arriving, from the arrivals."""

import os
from datetime import timedelta
from pathlib import Path

from feast import (
    Entity,
    FeatureService,
    Field,
    FileSource,
    KafkaSource,
    Project,
    StreamFeatureView,
    ValueType,
)
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Float64, String

HISTORY = Path(os.environ.get("DRIFTLINE_HOME", ".driftline")).resolve() / "history"

project = Project(name="delivery_minutes", description="Orders of meals")

restaurant = Entity(name="restaurant", join_keys=["restaurant"], value_type=ValueType.STRING)

arrivals = KafkaSource(
    name="arrivals",
    topic="orders.delivered",
    timestamp_field="event_time",
    message_format=JsonFormat(
        schema_json="order_id string not null, event_time timestamp not null, restaurant string not null, "
        "minutes double not null"
    ),
    watermark_delay_threshold=timedelta(0),
    batch_source=FileSource(
        name="restaurant_arrivals_past",
        path=str(HISTORY / "restaurant_arrivals.parquet"),
        timestamp_field="event_timestamp",
    ),
    # After ten seconds without an arrival, a pause holds no request back.
    tags={"message_key": "restaurant", "idle_seconds": "10"},
)
restaurant_arrivals = StreamFeatureView(
    name="restaurant_arrivals",
    description="Orders of the restaurant that arrived in the last three hours",
    entities=[restaurant],
    source=arrivals,
    timestamp_field="event_time",
    aggregations=[
        Aggregation("minutes", "mean", timedelta(hours=3), name="minutes_mean_3h"),
        Aggregation("minutes", "count", timedelta(hours=3), name="arrivals_3h"),
    ],
    schema=[
        Field(name="restaurant", dtype=String),
        Field(name="minutes_mean_3h", dtype=Float64),
        Field(name="arrivals_3h", dtype=Float64),
    ],
    enable_tiling=True,
    tiling_hop_size=timedelta(minutes=10),
    ttl=timedelta(hours=3),
)

service = FeatureService(
    name="delivery_minutes",
    description="Inputs of the model delivery_minutes",
    features=[restaurant_arrivals],
)
