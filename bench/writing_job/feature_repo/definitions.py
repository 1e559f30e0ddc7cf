"""Ten plain features of a user, written by a stream and by Feast's push; and windows over payments."""

import os
from datetime import timedelta
from pathlib import Path

from feast import (
    Entity,
    FeatureView,
    Field,
    FileSource,
    KafkaSource,
    PushSource,
    StreamFeatureView,
    ValueType,
)
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Float64, String

HOME = Path(os.environ["DRIFTLINE_HOME"])
NAMES = [f"f{number}" for number in range(10)]
FEATURES = [Field(name=name, dtype=Float64) for name in NAMES]


def file(name: str) -> FileSource:
    """Return a batch source; the benchmark never reads it."""
    return FileSource(name=name, path=str(HOME / f"{name}.parquet"), timestamp_field="event_time")


def stream(topic: str, columns: str) -> KafkaSource:
    """Return a source of a topic whose message key is the user."""
    return KafkaSource(
        name=topic,
        topic=f"bench.{topic}",
        timestamp_field="event_time",
        message_format=JsonFormat(
            schema_json=f"user_id string not null, event_time timestamp not null, {columns}"
        ),
        watermark_delay_threshold=timedelta(0),
        batch_source=file(f"{topic}_batch"),
        tags={"message_key": "user_id"},
    )


user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
updates = stream("updates", ", ".join(f"{name} double not null" for name in NAMES))
payments = stream("payments", "amount double not null")

streamed = StreamFeatureView(
    name="streamed",
    entities=[user],
    source=updates,
    timestamp_field="event_time",
    schema=[Field(name="user_id", dtype=String), *FEATURES],
    ttl=timedelta(0),
)
pushed = FeatureView(
    name="pushed",
    entities=[user],
    source=PushSource(name="pushes", batch_source=file("pushes_batch")),
    schema=FEATURES,
    ttl=timedelta(0),
)
spending = StreamFeatureView(
    name="spending",
    entities=[user],
    source=payments,
    timestamp_field="event_time",
    aggregations=[
        Aggregation("amount", "count", timedelta(hours=1), name="payments_1h"),
        Aggregation("amount", "sum", timedelta(hours=24), name="amount_sum_24h"),
        Aggregation("amount", "max", timedelta(hours=24), name="amount_max_24h"),
    ],
    schema=[
        Field(name="user_id", dtype=String),
        Field(name="payments_1h", dtype=Float64),
        Field(name="amount_sum_24h", dtype=Float64),
        Field(name="amount_max_24h", dtype=Float64),
    ],
    enable_tiling=True,
    tiling_hop_size=timedelta(minutes=10),
    ttl=timedelta(0),
)
