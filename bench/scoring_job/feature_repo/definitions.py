"""A Feast repository with one entity and ten plain features, in one view, and again over three."""

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


def view(name: str, numbers: range) -> FeatureView:
    """Define a view of some of the features."""
    schema = [Field(name=f"f{number}", dtype=Float64) for number in numbers]
    return FeatureView(name=name, entities=[user], schema=schema, source=source, ttl=None)


profile = view("profile", range(10))
service = FeatureService(name="profile", features=[profile])

account, habits, history = (
    view("account", range(4)),
    view("habits", range(4, 7)),
    view("history", range(7, 10)),
)
spread = FeatureService(name="spread", features=[account, habits, history])
