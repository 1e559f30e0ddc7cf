"""A Feast repository with one entity and ten plain features."""

import os
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
source = FileSource(
    name="users",
    path=str(Path(os.environ["DRIFTLINE_HOME"]) / "users.parquet"),
    timestamp_field="event_timestamp",
)
profile = FeatureView(
    name="profile",
    entities=[user],
    schema=[Field(name=f"f{number}", dtype=Float64) for number in range(10)],
    source=source,
    ttl=None,
)
service = FeatureService(name="profile", features=[profile])
