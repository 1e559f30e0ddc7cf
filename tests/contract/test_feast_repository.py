"""Feast repositories as Feast teaches them: they run with the values of Feast itself, or are refused."""

import asyncio
import datetime as dt
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.feature_store import repository
from services.feature_store.online_reader import OnlineReader
from services.feature_store.plan import PlanError
from services.runtime.settings import Settings
from tests.waiting import LIVENESS_SECONDS

STORE = """
project: PROJECT
registry: data/registry.db
provider: local
online_store:
  type: redis
  connection_string: ${DRIFTLINE_ONLINE_STORE}
entity_key_serialization_version: 3
"""
HEAD = """
from datetime import timedelta

import pandas as pd
from feast import (
    Entity, FeatureService, FeatureView, Field, FileSource, KafkaSource, RequestSource, StreamFeatureView,
    ValueType,
)
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.on_demand_feature_view import on_demand_feature_view
from feast.stream_feature_view import stream_feature_view
from feast.types import Float64, Int64, String

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)


def payments(view, **changes):
    return KafkaSource(
        name=f"payments_of_{view}", topic="PROJECT.payments", timestamp_field="at",
        message_format=JsonFormat(
            schema_json="user_id long not null, at timestamp not null, amount double, "
            "shop string, count int"
        ),
        batch_source=FileSource(name=f"{view}_past", path=f"{view}.parquet", timestamp_field="at"),
        tags={"message_key": "user_id"}, watermark_delay_threshold=timedelta(0), **changes,
    )


facts = FeatureView(
    name="facts", entities=[user], ttl=timedelta(days=10_000),
    source=FileSource(name="facts_source", path="ELSEWHERE/facts.parquet", timestamp_field="at"),
)
"""
BODY = """
scores = FeatureView(
    name="scores", entities=[user],
    source=FileSource(
        name="scores_source", path="../elsewhere/scores.parquet", timestamp_field="at",
        created_timestamp_column="made", field_mapping={"raw": "score"},
    ),
)
absent = FeatureView(
    name="absent", entities=[user],
    schema=[Field(name="user_id", dtype=Int64), Field(name="x", dtype=Float64)],
    source=FileSource(name="absent_source", path="absent.parquet", timestamp_field="at"),
)
paid = StreamFeatureView(
    name="paid", entities=[user], source=payments("paid"), timestamp_field="at",
    aggregations=[
        Aggregation("amount", "sum", timedelta(hours=1), name="amount_sum"),
        Aggregation("amount", "count", timedelta(hours=1), name="amount_count"),
        Aggregation("count", "max", timedelta(hours=1), name="count_max"),
        Aggregation("shop", "last", timedelta(hours=1), name="shop_last"),
    ],
    enable_tiling=True, tiling_hop_size=timedelta(minutes=1),
)
newest = StreamFeatureView(name="newest", entities=[user], source=payments("newest"), timestamp_field="at")
everything = FeatureService(name="everything", features=[facts, scores])
streams = FeatureService(name="streams", features=[paid])
"""
ON_DEMAND = """
@on_demand_feature_view(
    sources=[facts, RequestSource(name="given", schema=[Field(name="plus", dtype=Int64)])],
    schema=[Field(name="older", dtype=Float64)],MODE
)
def later(inputs: KIND) -> KIND:
    BODY


refused = FeatureService(name="refused", features=[facts, later])
"""
_TAKE = '(inputs["age"] + inputs["plus"]).astype(float)'
PANDAS = ON_DEMAND.replace("MODE", "").replace("KIND", "pd.DataFrame")
PANDAS = PANDAS.replace("BODY", f"return pd.DataFrame({{'older': {_TAKE}}})")
PYTHON = ON_DEMAND.replace("MODE", ' mode="python",').replace("KIND", "dict")
PYTHON = PYTHON.replace(
    "BODY", 'return {"older": [float(a + b) for a, b in zip(inputs["age"], inputs["plus"])]}'
)
UDF = """
@stream_feature_view(
    entities=[user], source=payments("changed"), timestamp_field="at", mode="pandas",
    ttl=timedelta(0),
    schema=[Field(name="user_id", dtype=Int64), Field(name="amount", dtype=Float64)],
)
def changed(frame):
    return frame
"""
MAPPED = """
mapped = StreamFeatureView(
    name="mapped", entities=[user], source=payments("mapped", field_mapping={"amount": "paid"}),
    timestamp_field="at",
)
"""
KEYS = 'keyed = FeatureService(name="keyed", features=[facts.with_join_key_map({"user_id": "payer"})])'


def write(folder: Path, project: str, body: str) -> Path:
    """Write a repository whose data is in another folder; return it."""
    made, elsewhere = folder / "repo", folder / "elsewhere"
    made.mkdir()
    elsewhere.mkdir()
    at = pd.Timestamp("2024-01-01", tz="UTC")
    users = {"user_id": [1, 2], "at": [at, at]}
    pd.DataFrame({**users, "age": [30, 41], "city": ["Lima", None]}).to_parquet(elsewhere / "facts.parquet")
    pd.DataFrame({**users, "made": [at, at], "raw": [0.5, 0.25]}).to_parquet(elsewhere / "scores.parquet")
    (made / "feature_store.yaml").write_text(STORE.replace("PROJECT", project))
    text = (HEAD + body).replace("PROJECT", project).replace("ELSEWHERE", str(elsewhere))
    (made / "definitions.py").write_text(text)
    return made


def settings_of(folder: Path, made: Path, redis_url: str = "redis://127.0.0.1:1/0") -> Settings:
    return Settings(_env_file=None, redis_url=redis_url, home=folder / "home", feature_repo=made)


def served(settings: Settings, service: str, keys: dict[str, list[Any]]) -> dict[str, list[Any]]:
    async def read() -> Any:
        async with OnlineReader.connect(settings, service) as reader:
            return await reader.read(keys)

    return {name: column.tolist() for name, column in asyncio.run(read()).columns.items()}


def of_feast(
    settings: Settings, service: str, keys: dict[str, list[Any]], names: list[str]
) -> dict[str, list[Any]]:
    with repository.feast_store(settings) as store:
        found = store.get_online_features(store.get_feature_service(service), keys).to_dict()
    return {name: found[name] for name in names}


def plain(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        name: [None if value is None or value != value else value for value in values]
        for name, values in columns.items()
    }


def test_sources_lie_anywhere_and_views_need_no_schema(valkey: str, tmp_path: Path, unique_name: str) -> None:
    made = write(tmp_path, unique_name, BODY)
    settings = settings_of(tmp_path, made, valkey)
    repository.checked(settings)
    assert not (made / "data").exists(), "a check applies nothing"
    plan = repository.apply(settings)
    assert (made / "data" / "registry.db").is_file()
    assert repository.load(settings) == plan
    done = repository.materialize(settings, dt.datetime.now(dt.UTC))
    assert done.written == ["facts", "scores"]
    assert done.missing == {"absent": made / "absent.parquet"}
    keys = {"user_id": [2, 1, 99]}
    ours = plain(served(settings, "everything", keys))
    assert ours == plain(of_feast(settings, "everything", keys, ["age", "city", "score"]))
    assert ours == {"age": [41, 30, None], "city": [None, "Lima", None], "score": [0.25, 0.5, None]}
    columns = {view.name: {each.name: each.type for each in view.features} for view in plan.views}
    assert columns["paid"] == {
        "amount_sum": "double", "amount_count": "int64", "count_max": "int64", "shop_last": "string",
    }  # fmt: skip
    assert columns["newest"] == {"amount": "double", "shop": "string", "count": "int64"}
    assert np.isnan(served(settings, "streams", keys)["amount_sum"]).all(), "no payment was read"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            PANDAS,
            "service 'refused': view 'later': on-demand feature views are not run",
        ),
        (PYTHON, "view 'later': on-demand feature views are not run"),
        (UDF, "view 'changed': udf: stream views cannot have transformations: remove the udf"),
        (MAPPED, "view 'mapped': source 'payments_of_mapped': field_mapping is not supported: remove it"),
        (KEYS, "service 'keyed': view 'facts': join_key_map is not supported: name the field"),
        (
            BODY.replace("../elsewhere/scores.parquet", "none.parquet"),
            "view 'scores': without a complete schema its columns are read from its file, and .*none.parquet",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_remedy(tmp_path: Path, body: str, text: str) -> None:
    made = write(tmp_path, "refused", body)
    with pytest.raises(PlanError, match=text):
        repository.checked(settings_of(tmp_path, made))


def test_the_repository_of_feast_s_own_quickstart(valkey: str, tmp_path: Path, unique_name: str) -> None:
    """What it has beyond Driftline is refused, one sentence each; without it, the values are Feast's."""
    command = [sys.executable, "-c", "from feast.cli.cli import cli; cli()", "init", unique_name]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=LIVENESS_SECONDS)
    made = tmp_path / unique_name / "feature_repo"
    settings = settings_of(tmp_path, made, valkey)
    store, file = made / "feature_store.yaml", made / "feature_definitions.py"
    text = store.read_text()
    sqlite = text[text.index("online_store:") : text.index("entity_key")]
    redis = "online_store:\n    type: redis\n    connection_string: ${DRIFTLINE_ONLINE_STORE}\n"
    store.write_text(text.replace(sqlite, redis))
    (made / "test_workflow.py").unlink()

    def refused() -> str:
        with pytest.raises(PlanError) as raised:
            repository.checked(settings)
        return str(raised.value)

    assert "type Map is not supported; use one of String" in refused()
    text = file.read_text()
    for start, end in (('Field(\n            name="driver_metadata"', "    ],\n    online=True"),):
        text = text[: text.index(start)] + text[text.index(end) :]
    kept = [line for line in text.splitlines() if "dtype=Map" not in line and "dtype=Json" not in line]
    text = "\n".join(line for line in kept if "dtype=Struct" not in line)
    file.write_text(text)
    assert "on-demand feature views are not run: remove it from the service" in refused()
    for name in (
        "transformed_conv_rate,  # Selects all features from the feature view",
        ", transformed_conv_rate]",
    ):
        text = text.replace(name, "]" if name.endswith("]") else "")
    file.write_text(text.replace(", transformed_conv_rate_fresh]", "]"))
    repository.apply(settings)
    assert repository.materialize(settings, dt.datetime.now(dt.UTC)).missing == {}
    keys = {"driver_id": [1001, 1002, 7]}
    names = ["conv_rate", "acc_rate", "avg_daily_trips"]
    for service in ("driver_activity_v2", "driver_activity_v3"):
        ours = plain(served(settings, service, keys))
        assert ours == plain(of_feast(settings, service, keys, names))
        assert ours["conv_rate"][0] is not None
        assert ours["conv_rate"][2] is None
