"""A small Feast repository with windows of every kind, with names of its own."""

from pathlib import Path

from tests.repositories import STORE

DEFINITIONS = """
from datetime import timedelta

from feast import Entity, FeatureService, Field, FileSource, KafkaSource, StreamFeatureView, ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Bool, Float32, Float64, Int32, Int64, String

card = Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)
shop = Entity(name="merchant", join_keys=["merchant"], value_type=ValueType.STRING)
HOUR = timedelta(hours=1)
payments = KafkaSource(
    name="payments", topic="PREFIX.payments", timestamp_field="event_time",
    message_format=JsonFormat(
        schema_json="card string not null, event_time timestamp not null, "
        "amount double, merchant string, paid boolean"
    ),
    watermark_delay_threshold=timedelta(seconds=30),
    batch_source=FileSource(name="payments_batch", path="payments.parquet", timestamp_field="event_time"),
    tags={"message_key": "card", "idle_seconds": "60"},
)
PREFIX_by_card = StreamFeatureView(
    name="PREFIX_by_card", entities=[card], source=payments, timestamp_field="event_time",
    aggregations=[
        Aggregation("amount", "last", HOUR, name="last_amount"),
        Aggregation("amount", "sum", HOUR, slide_interval=timedelta(minutes=10), name="hopping"),
        Aggregation("amount", "sum", timedelta(minutes=10), name="tumbling"),
        Aggregation("amount", "count", HOUR, name="session"),
        Aggregation("amount", "count", timedelta(minutes=10), name="faster"),
        Aggregation("merchant", "count_distinct", HOUR, name="merchants"),
        Aggregation("amount", "approx_percentile", HOUR, name="p90"),
    ],
    schema=[
        Field(name="card", dtype=String), Field(name="last_amount", dtype=Float64),
        Field(name="hopping", dtype=Float64), Field(name="tumbling", dtype=Float64),
        Field(name="session", dtype=Int64), Field(name="faster", dtype=Float64),
        Field(name="merchants", dtype=Int64), Field(name="p90", dtype=Float64),
    ],
    enable_tiling=True, tiling_hop_size=timedelta(minutes=1),
    tags={
        "window.tumbling": "tumbling", "window.session": "session 5m",
        "change.faster": "difference", "percentile.p90": "0.9",
    },
)
PREFIX_by_merchant = StreamFeatureView(
    name="PREFIX_by_merchant", entities=[shop], source=payments, timestamp_field="event_time",
    aggregations=[
        Aggregation("amount", "first", HOUR, name="first_amount"),
        Aggregation("card", "count_distinct", HOUR, name="cards"),
    ],
    schema=[
        Field(name="merchant", dtype=String), Field(name="first_amount", dtype=Float64),
        Field(name="cards", dtype=Int64),
    ],
    enable_tiling=True, tiling_hop_size=timedelta(minutes=1),
)
PREFIX_lives = StreamFeatureView(
    name="PREFIX_lives", entities=[card], source=payments, timestamp_field="event_time",
    aggregations=[
        Aggregation("amount", "sum", name="life_sum"),
        Aggregation("amount", "count", name="payments"),
        Aggregation("amount", "mean", slide_interval=timedelta(minutes=10), name="mean_by_ten"),
        Aggregation("merchant", "count_distinct"),
        Aggregation("merchant", "last", name="last_merchant"),
        Aggregation("merchant", "first", HOUR, name="first_merchant"),
        Aggregation("paid", "last", name="last_paid"),
    ],
    schema=[
        Field(name="card", dtype=String), Field(name="life_sum", dtype=Float32),
        Field(name="payments", dtype=Int32), Field(name="mean_by_ten", dtype=Float32),
        Field(name="count_distinct_merchant", dtype=Int64), Field(name="last_merchant", dtype=String),
        Field(name="first_merchant", dtype=String), Field(name="last_paid", dtype=Bool),
    ],
    enable_tiling=True, tiling_hop_size=timedelta(minutes=1),
)
cards = FeatureService(name="cards", features=[PREFIX_by_card])
lives = FeatureService(name="lives", features=[PREFIX_lives])
merchants = FeatureService(name="merchants", features=[PREFIX_by_merchant])
"""


def write_cards(folder: Path, prefix: str, definitions: str = DEFINITIONS) -> Path:
    """Write the repository; its project, topic and views begin with the prefix."""
    folder.mkdir(parents=True)
    (folder / "definitions.py").write_text(definitions.replace("PREFIX", prefix), encoding="utf-8")
    (folder / "feature_store.yaml").write_text(STORE.replace("PREFIX", prefix), encoding="utf-8")
    return folder
