"""Small Feast repositories for tests, each with names of its own, so that tests can share the servers."""

from pathlib import Path

DEFINITIONS = """
import copy
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, KafkaSource
from feast import StreamFeatureView, ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, Map, String, UnixTimestamp


def past(source, view):
    source = copy.copy(source)  # the same stream, with a batch source of the view's own
    source.name = f"{source.name}_of_{view}"
    source.batch_source = FileSource(
        name=f"{view}_batch", path=f"{view}.parquet", timestamp_field="event_time"
    )
    return source


shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
desk = Entity(name="desk", join_keys=["desk"], value_type=ValueType.INT64)
orders = KafkaSource(
    name="orders", topic="PREFIX.orders", timestamp_field="event_time",
    message_format=JsonFormat(
        schema_json="order_id string not null, event_time timestamp not null, "
        "shop string not null, desk long, amount double, note string, paid boolean"
    ),
    watermark_delay_threshold=timedelta(seconds=LATENESS),
    batch_source=FileSource(name="orders_batch", path="orders.parquet", timestamp_field="event_time"),
    tags={"message_key": "order_id"},
)
PREFIX_by_shop = StreamFeatureView(
    name="PREFIX_by_shop", entities=[shop], source=past(orders, "PREFIX_by_shop"),
    timestamp_field="event_time",
    aggregations=[
        Aggregation("amount", "sum", timedelta(minutes=10), name="amount_sum"),
        Aggregation("amount", "count", timedelta(minutes=10), name="amount_count"),
        Aggregation("amount", "max", timedelta(minutes=30), name="amount_max"),
        Aggregation("amount", "std", timedelta(minutes=30), name="amount_std"),
    ],
    schema=[
        Field(name="shop", dtype=String), Field(name="amount_sum", dtype=Float64),
        Field(name="amount_count", dtype=Int64), Field(name="amount_max", dtype=Float64),
        Field(name="amount_std", dtype=Float64),
    ],
    enable_tiling=True, tiling_hop_size=timedelta(minutes=1),
)
PREFIX_by_desk = StreamFeatureView(
    name="PREFIX_by_desk", entities=[shop, desk], source=past(orders, "PREFIX_by_desk"),
    timestamp_field="event_time",
    aggregations=[
        Aggregation("amount", "mean", timedelta(minutes=10), name="desk_mean"),
        Aggregation("amount", "sum", name="desk_life"),
    ],
    schema=[
        Field(name="shop", dtype=String), Field(name="desk", dtype=Int64),
        Field(name="desk_mean", dtype=Float64), Field(name="desk_life", dtype=Float32),
    ],
    enable_tiling=True, tiling_hop_size=timedelta(minutes=1),
)
readings = KafkaSource(
    name="readings", topic="PREFIX.readings", timestamp_field="event_time",
    message_format=JsonFormat(
        schema_json="shop string not null, event_time timestamp not null, "
        "heat double, state string, open boolean, people int"
    ),
    batch_source=FileSource(name="readings_batch", path="readings.parquet", timestamp_field="event_time"),
    tags={"message_key": "shop"},
)
PREFIX_latest = StreamFeatureView(
    name="PREFIX_latest", entities=[shop], source=past(readings, "PREFIX_latest"),
    timestamp_field="event_time",
    schema=[
        Field(name="shop", dtype=String), Field(name="heat", dtype=Float64),
        Field(name="state", dtype=String),
        Field(name="open", dtype=Bool), Field(name="people", dtype=Int64),
    ],
    ttl=timedelta(hours=1),
)
PREFIX_facts = FeatureView(
    name="PREFIX_facts", entities=[desk],
    source=FileSource(name="facts", path="facts.parquet", timestamp_field="event_timestamp"),
    schema=[
        Field(name="desk", dtype=Int64), Field(name="width", dtype=Float64),
        Field(name="depth", dtype=Float32), Field(name="drawers", dtype=Int64),
        Field(name="legs", dtype=Int32), Field(name="colour", dtype=String),
        Field(name="oak", dtype=Bool),
    ],
    ttl=timedelta(0),
)
area = Entity(name="area", join_keys=["area"], value_type=ValueType.INT32)
SCALARS = {
    "bool": Bool, "bytes": Bytes, "double": Float64, "float": Float32, "int32": Int32, "int64": Int64,
    "string": String, "unix_timestamp": UnixTimestamp,
}
PREFIX_typed = FeatureView(
    name="PREFIX_typed", entities=[shop, desk, area],
    source=FileSource(name="typed", path="typed.parquet", timestamp_field="event_timestamp"),
    schema=[
        Field(name="shop", dtype=String), Field(name="desk", dtype=Int64), Field(name="area", dtype=Int32),
        *(Field(name=name, dtype=dtype) for name, dtype in SCALARS.items()),
        *(Field(name=f"{name}_list", dtype=Array(dtype)) for name, dtype in SCALARS.items()),
    ],
    ttl=timedelta(days=20000),
)
typed = FeatureService(name="typed", features=[PREFIX_typed])
everything = FeatureService(
    name="everything", features=[PREFIX_by_shop, PREFIX_by_desk, PREFIX_latest, PREFIX_facts]
)
"""

STORE = """
project: PREFIX
provider: local
registry: {registry_type: file, path: "${DRIFTLINE_HOME}/registry.db"}
online_store: {type: redis, connection_string: "${DRIFTLINE_ONLINE_STORE}"}
offline_store: {type: dask}
entity_key_serialization_version: 3
"""


def write_shop(folder: Path, prefix: str, *, lateness_seconds: int = 0) -> Path:
    """Write a repository of all kinds of views; its project, topics and views begin with the prefix."""
    folder.mkdir(parents=True)
    definitions = DEFINITIONS.replace("PREFIX", prefix).replace("LATENESS", str(lateness_seconds))
    (folder / "definitions.py").write_text(definitions, encoding="utf-8")
    (folder / "feature_store.yaml").write_text(STORE.replace("PREFIX", prefix), encoding="utf-8")
    return folder
