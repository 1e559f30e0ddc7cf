"""The features of blank_model. Replace the source and the view by your own."""

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

project = Project(name="blank_model")

entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.STRING)

events = KafkaSource(
    name="events",
    topic="blank_model.events",
    timestamp_field="event_time",
    message_format=JsonFormat(
        schema_json="entity string not null, event_time timestamp not null, amount double not null"
    ),
    watermark_delay_threshold=timedelta(0),
    batch_source=FileSource(
        name="entity_events_past",
        path=str(HISTORY / "entity_events.parquet"),
        timestamp_field="event_timestamp",
    ),
    tags={"message_key": "entity"},
)
entity_events = StreamFeatureView(
    name="entity_events",
    entities=[entity],
    source=events,
    timestamp_field="event_time",
    aggregations=[Aggregation("amount", "sum", timedelta(hours=1), name="amount_1h")],
    schema=[Field(name="entity", dtype=String), Field(name="amount_1h", dtype=Float64)],
    enable_tiling=True,
    tiling_hop_size=timedelta(minutes=5),
    ttl=timedelta(hours=1),
)

service = FeatureService(name="blank_model", features=[entity_events])
