"""What the columns of a view without a schema are; see also tests/contract/test_feast_repository.py."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.feature_store import view_schemas
from services.feature_store.plan import PlanError


def entity() -> Any:
    from feast import Entity, ValueType

    return Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)


def stream(*aggregations: Any) -> Any:
    from feast import FileSource, KafkaSource, StreamFeatureView
    from feast.data_format import JsonFormat

    source = KafkaSource(
        name="payments",
        topic="payments",
        timestamp_field="at",
        message_format=JsonFormat(
            schema_json="user_id long not null, at timestamp not null, amount double, "
            "paid boolean, number int"
        ),
        batch_source=FileSource(name="past", path="past.parquet", timestamp_field="at"),
    )
    return StreamFeatureView(
        name="paid",
        entities=[entity()],
        source=source,
        timestamp_field="at",
        aggregations=list(aggregations),
        ttl=timedelta(0),
    )


def columns(view: Any) -> dict[str, str]:
    return {field.name: str(field.dtype) for field in view.features}


def test_aggregations_have_the_type_of_their_function_or_field(tmp_path: Path) -> None:
    from feast.aggregation import Aggregation

    hour = timedelta(hours=1)
    items = [("amount", "sum"), ("amount", "count"), ("number", "max"), ("number", "mean"), ("paid", "last")]
    view = stream(*(Aggregation(column, function, hour, name=function) for column, function in items))
    view_schemas.complete([entity(), view], tmp_path)
    assert columns(view) == {
        "sum": "Float64",
        "count": "Int64",
        "max": "Int64",
        "mean": "Float64",
        "last": "Bool",
    }
    assert [field.name for field in view.entity_columns] == ["user_id"]


def test_a_view_of_newest_events_has_the_other_fields(tmp_path: Path) -> None:
    view = stream()
    view_schemas.complete([entity(), view], tmp_path)
    assert columns(view) == {"amount": "Float64", "paid": "Bool", "number": "Int64"}


def test_without_a_file_a_batch_view_needs_a_schema(tmp_path: Path) -> None:
    from feast import FeatureView, Field, FileSource
    from feast.types import Int64

    def batch(path: str, *schema: Any) -> Any:
        source = FileSource(name="facts_file", path=path, timestamp_field="at")
        return FeatureView(name="facts", entities=[entity()], source=source, schema=list(schema) or None)

    (tmp_path / "there.parquet").touch()
    there, absent = batch("there.parquet"), batch("absent.parquet")
    assert view_schemas.missing_file(there, tmp_path) is None
    assert view_schemas.missing_file(absent, tmp_path) == tmp_path / "absent.parquet"
    assert view_schemas.missing_file(batch("s3://bucket/absent.parquet"), tmp_path) is None
    declared = batch("absent.parquet", Field(name="age", dtype=Int64))
    view_schemas.complete([entity(), there, declared], tmp_path)
    with pytest.raises(PlanError, match=r"view 'facts': .* does not exist: declare schema"):
        view_schemas.complete([entity(), absent], tmp_path)
