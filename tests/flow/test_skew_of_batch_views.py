"""The skew check of batch views that Feast has materialised: the served rows against the source files."""

import asyncio
import dataclasses
import datetime as dt
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from services.feature_store import repository
from services.feature_store.online_reader import OnlineReader
from services.feature_store.plan import FeaturePlan
from services.feature_store.served_features import ServedFeatures
from services.features.offline.materialized_rows import READING_MS
from services.features.offline.skew_check import SkewCheck
from services.features.offline.skew_report import report_lines
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from tests.flow.test_backfill import archive_served, declared
from tests.shop import stamp

FACTS = ("distance", "year_built", "seats")
TAILS = ("N1", "N2", "N9")
"""Tail numbers; the last one is in no file."""
NEW_YEAR_MS = 1_357_084_800_000


@pytest.fixture
def settings(valkey: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=valkey, home=tmp_path, skew_share=1.0)


def write_facts(folder: Path, aircraft: list[tuple[str, int | None, int, str]]) -> None:
    """Write both files; an aircraft is given by tail number, year, seats and the day of the row."""
    folder.mkdir(exist_ok=True)
    tails, years, seats, days = zip(*aircraft, strict=True)
    frame = pd.DataFrame({"tailnum": tails, "year_built": pd.array(years, "Int64"), "seats": seats})
    frame.assign(event_timestamp=pd.to_datetime(days, utc=True)).to_parquet(folder / "aircraft_facts.parquet")
    day = pd.Timestamp("2013-01-01", tz="UTC")
    route = {"origin": ["JFK"], "dest": ["LAX"], "distance": [2475.0], "event_timestamp": [day]}
    pd.DataFrame(route).to_parquet(folder / "route_facts.parquet")


def facts_of(plan: FeaturePlan) -> FeaturePlan:
    """Return the plan with a service of the batch views alone."""
    own = tuple(item for item in plan.services["arrival_delay"] if item.feature in FACTS)
    return dataclasses.replace(plan, services={"facts": own})


def model_of(prefix: str) -> ModelDeclaration:
    declared_model = declared(prefix)
    declared_model["request"]["schema"] = {
        "id": "string",
        "at": "timestamp",
        "origin": "string",
        "dest": "string",
        "tailnum": "string?",
    }
    declared_model["features"] = {"service": "facts", "from_request": []}
    return ModelDeclaration.model_validate(declared_model)


def serve(settings: Settings, plan: FeaturePlan, first: int) -> list[dict[str, Any]]:
    """Read each aircraft's row online, as scoring does."""
    asked = {"origin": ["JFK"] * len(TAILS), "dest": ["LAX"] * len(TAILS), "tailnum": list(TAILS)}

    async def read() -> ServedFeatures:
        async with OnlineReader.connect(settings, plan.service("facts")) as reader:
            return await reader.read(asked)

    columns = asyncio.run(read()).columns
    scored_ms = time.time_ns() // 1_000_000
    return [
        {
            "request": {
                "id": f"r{first + n}",
                "at": stamp(NEW_YEAR_MS + n),
                "origin": "JFK",
                "dest": "LAX",
                "tailnum": tail,
            },
            "at_ms": NEW_YEAR_MS + n,
            "scored_ms": scored_ms,
            "lag_ms": 0,
            "features": [None if pd.isna(column[n]) else float(column[n]) for column in columns.values()],
        }
        for n, tail in enumerate(TAILS)
    ]


def test_materialised_rows_are_expected_and_each_difference_is_named(
    settings: Settings, tmp_path: Path, unique_name: str
) -> None:
    """Two rounds with a materialisation in between; the rows of the first round stay right."""
    model = model_of(unique_name)
    write_facts(tmp_path / "batch", [("N1", 1999, 150, "2013-01-01"), ("N2", None, 8, "2013-01-01")])
    repository.apply(settings)
    repository.materialize(settings, dt.datetime(2013, 1, 2, tzinfo=dt.UTC))
    plan = facts_of(repository.load(settings))
    assert plan.service("facts").feature_names == FACTS
    first = serve(settings, plan, 0)
    assert [row["features"] for row in first] == [[2475, 1999, 150], [2475, None, 8], [2475, None, None]]
    archive_served(settings, model, first)
    report = SkewCheck(settings, plan, model, {}).run()
    assert (report.checked, report.different) == (3, 0), report_lines(report)
    assert [item.equal for item in report.features] == [3, 3, 3]

    rows = [("N1", 1999, 150, "2013-01-01"), ("N2", None, 8, "2013-01-01"), ("N1", 1999, 200, "2013-02-01")]
    write_facts(tmp_path / "batch", rows)
    repository.materialize(settings, dt.datetime(2013, 3, 1, tzinfo=dt.UTC))
    second, planted = serve(settings, plan, 3), serve(settings, plan, 6)
    assert second[0]["features"] == [2475, 1999, 200]
    for row in planted:
        row["scored_ms"] += READING_MS
    planted[0]["features"] = [2475.5, None, 150.0]
    planted[2]["features"][2] = 4.0
    archive_served(settings, model, first + second + planted)
    report = SkewCheck(settings, plan, model, {}).run()
    assert report.checked == 9
    found = {(d.prediction_id, d.feature, d.result.value, d.recomputed) for d in report.differences}
    assert found == {
        ("r6", "distance", "mismatched", 2475.0),
        ("r6", "year_built", "missing", 1999.0),
        ("r6", "seats", "mismatched", 200.0),
        ("r8", "seats", "extra", None),
    }
    distances = {item.feature: item.distance_max for item in report.features}
    assert distances == {"distance": 0.5, "year_built": 0.0, "seats": 50.0}


def test_view_that_was_never_materialised_is_not_compared(
    settings: Settings, tmp_path: Path, unique_name: str
) -> None:
    """The expected values are unknown; the report says so."""
    model = model_of(unique_name)
    write_facts(tmp_path / "batch", [("N1", 1999, 150, "2013-01-01")])
    repository.apply(settings)
    plan = facts_of(repository.load(settings))
    archive_served(settings, model, serve(settings, plan, 0))
    report = SkewCheck(settings, plan, model, {}).run()
    assert (report.checked, sum(item.compared for item in report.features)) == (3, 0)
    assert report_lines(report)[1].endswith("nothing compared")
