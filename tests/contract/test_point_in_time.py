"""A value that is served online at an event time equals Feast's offline point-in-time join, ttl included."""

import asyncio
import datetime as dt
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import redis

from services.feature_store import repository
from services.feature_store.online_reader import OnlineReader
from services.feature_store.plan import ServicePlan
from services.feature_store.served_features import ServedFeatures, Status
from services.features.view_state import Event, ViewLogic
from services.runtime.settings import Settings
from streams.codec import EventDecoder
from tests.repositories import write_shop

NOON_MS = 1_372_680_000_000
TTL_MS = 3_600_000
"""The ttl of the view ``latest``."""


def test_latest_values_equal_those_of_the_offline_join(valkey: str, tmp_path: Path, unique_name: str) -> None:
    import pandas as pd

    feature_repo = write_shop(tmp_path / "repository", unique_name)
    settings = Settings(redis_url=valkey, home=tmp_path / "home", feature_repo=feature_repo)
    plan = repository.apply(settings)
    view = plan.view(f"{unique_name}_latest")
    rng = random.Random(1)
    events: list[dict[str, Any]] = [
        {
            "shop": rng.choice(["mill", "dock"]),
            "time_ms": NOON_MS + minute * 60_000,
            "heat": rng.choice([None, rng.uniform(0, 40)]),
            "state": rng.choice([None, "ok", "böse"]),
        }
        for minute in sorted(rng.sample(range(24 * 60), 40))
    ]
    queries = [("mill", NOON_MS - 1), ("hill", NOON_MS)]
    for event in events:  # just before, at, and around the end of the time to live
        queries += [
            (event["shop"], event["time_ms"] + after_ms) for after_ms in (-1, 0, 1, TTL_MS, TTL_MS + 1)
        ]
    write_online(valkey, ViewLogic(plan.project, view), events)
    frame = pd.DataFrame(events)
    frame["event_time"] = pd.to_datetime(frame.pop("time_ms"), unit="ms", utc=True)
    frame.assign(open=None, people=None).astype({"open": "boolean", "people": "Int64"}).to_parquet(
        feature_repo / f"{view.name}.parquet"
    )
    names = ["heat", "state"]
    with repository.feast_store(settings) as store:
        entities = pd.DataFrame(queries, columns=["shop", "time_ms"])
        entities["row"] = range(len(queries))
        entities["event_timestamp"] = pd.to_datetime(entities.pop("time_ms"), unit="ms", utc=True)
        job = store.get_historical_features(entities, [f"{view.name}:{name}" for name in names])
        # The offline store on files drops rows of which all values are too old; others keep them, with nulls.
        joined = job.to_df().set_index("row").reindex(range(len(queries)))

    async def read(service: ServicePlan | str) -> tuple[ServedFeatures, ServedFeatures]:
        """Read at the times of the queries, and as of now."""
        async with OnlineReader.connect(settings, service) as reader:
            shops, times_ms = zip(*queries, strict=True)
            columns = {"shop": shops, "desk": [None] * len(queries)}
            then = await reader.read(columns, np.array(times_ms, dtype=np.int64))
            return then, await reader.read(columns)

    served, now = asyncio.run(read(plan.service("everything")))
    by_name, _ = asyncio.run(read("everything"))
    for name in names:
        offline = [None if pd.isna(value) else value for value in joined[name]]
        online = [
            None if value is None or (isinstance(value, float) and math.isnan(value)) else value
            for value in served.columns[name].tolist()
        ]
        assert online == offline
        np.testing.assert_array_equal(by_name.columns[name], served.columns[name])
    statuses = {Status(number) for number in served.statuses("heat", view.name).tolist()}
    assert statuses == set(Status)
    assert set(now.statuses("heat", view.name)) == {Status.OUTSIDE_MAX_AGE, Status.NOT_FOUND}


def write_online(url: str, logic: ViewLogic, events: list[dict[str, Any]]) -> None:
    source = logic.view.source
    assert source is not None
    decode = EventDecoder(source.fields).decode
    states: dict[str, Any] = {}
    for offset, event in enumerate(events):
        stamp = dt.datetime.fromtimestamp(event["time_ms"] / 1000, dt.UTC).isoformat()
        value = decode(
            json.dumps(
                {name: event[name] for name in ("shop", "heat", "state")} | {"event_time": stamp}
            ).encode()
        )
        state = states.setdefault(event["shop"], logic.load(None))
        logic.apply(state, Event(value, event["time_ms"], 0, offset))
    with redis.Redis.from_url(url) as client:
        for shop, state in states.items():
            client.hset(logic.key_of((shop,)), mapping=logic.fields(state, logic.row(state)))
