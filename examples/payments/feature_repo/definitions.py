"""How a user has been paying: counts, sums and distinct merchants over windows, from the payments themselves.

The topic of the requests is also the source of the features. Every value includes the payment that it is
about (``features.own_event`` in model.yaml).
"""

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
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)

project = Project(name="payment_fraud", description="Payments with cards")

user = Entity(name="user", join_keys=["user"], value_type=ValueType.STRING, description="Holder of a card")


def payments(view: str) -> KafkaSource:
    """Return the stream of payments, with the file of one view's history."""
    return KafkaSource(
        name=f"payments_of_{view}",
        topic="payments",
        timestamp_field="event_time",
        message_format=JsonFormat(
            schema_json="payment_id string not null, event_time timestamp not null, user string not null, "
            "merchant string not null, amount double not null, channel string not null, "
            "category string not null, hour int not null"
        ),
        watermark_delay_threshold=timedelta(0),
        batch_source=FileSource(
            name=f"{view}_past", path=str(HISTORY / f"{view}.parquet"), timestamp_field="event_timestamp"
        ),
        # After ten seconds without a payment, a pause holds no request back.
        tags={"message_key": "user", "idle_seconds": "10"},
    )


def fields(*names: str) -> list[Field]:
    """Return the schema of a view of users."""
    return [Field(name="user", dtype=String), *(Field(name=name, dtype=Float64) for name in names)]


user_hour = StreamFeatureView(
    name="user_hour",
    description="Payments of the user in the last hour",
    entities=[user],
    source=payments("user_hour"),
    timestamp_field="event_time",
    aggregations=[
        Aggregation("amount", "count", HOUR, name="payments_1h"),
        Aggregation("amount", "sum", HOUR, name="amount_1h"),
        Aggregation("merchant", "count_distinct", HOUR, name="merchants_1h"),
    ],
    schema=fields("payments_1h", "amount_1h", "merchants_1h"),
    enable_tiling=True,
    tiling_hop_size=timedelta(minutes=5),
    ttl=HOUR,
)
user_week = StreamFeatureView(
    name="user_week",
    description="Payments of the user in the last day and week",
    entities=[user],
    source=payments("user_week"),
    timestamp_field="event_time",
    aggregations=[
        Aggregation("amount", "count", DAY, name="payments_1d"),
        Aggregation("amount", "sum", DAY, name="amount_1d"),
        Aggregation("merchant", "count_distinct", DAY, name="merchants_1d"),
        Aggregation("amount", "mean", WEEK, name="amount_mean_7d"),
    ],
    schema=fields("payments_1d", "amount_1d", "merchants_1d", "amount_mean_7d"),
    enable_tiling=True,
    tiling_hop_size=HOUR,
    ttl=WEEK,
)

service = FeatureService(
    name="payment_fraud",
    description="Inputs of the model payment_fraud",
    features=[user_hour, user_week],
)
