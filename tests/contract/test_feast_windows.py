"""What Feast's own objects declare of windows, through its registry into the plan, and out of the store."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from services import feast_repository
from services.feature_plan import PlanError
from services.features.states import Event, ViewLogic
from services.online_store import OnlineReader
from services.settings import Settings
from streams.codec import EventDecoder
from streams.spans import Change
from tests.cards import DEFINITIONS, write_cards

NOON_MS = 1_372_680_000_000
MINUTE_MS = 60_000
PAYMENTS = ((1, 10, "a"), (4, 20, "b"), (8, 5, "a"), (14, 50, "c"))
"""Minute, amount and merchant."""


def test_what_feast_and_the_tags_declare_is_planned_and_served_at_any_time(
    valkey: str, tmp_path: Path
) -> None:
    repository = write_cards(tmp_path / "repository", "windows")
    settings = Settings(redis_url=valkey, home=tmp_path / "home", feature_repo=repository)
    plan = feast_repository.apply(settings)
    view = plan.view("windows_by_card")
    assert view.source is not None
    assert (view.source.lateness_ms, view.source.idle_ms) == (30_000, 60_000)
    planned = {item.feature: item for item in view.aggregations}
    assert {name: (item.slide_ms, item.gap_ms) for name, item in planned.items()} == {
        "last_amount": (0, 0),
        "hopping": (10 * MINUTE_MS, 0),
        "tumbling": (10 * MINUTE_MS, 0),
        "session": (0, 5 * MINUTE_MS),
        "faster": (0, 0),
        "merchants": (0, 0),
        "p90": (0, 0),
    }
    assert planned["faster"].change is Change.DIFFERENCE
    assert planned["p90"].percentile == 0.9

    logic, decode = ViewLogic(plan.project, view), EventDecoder(view.source.fields).decode
    state = logic.load(None)
    for offset, (minute, amount, merchant) in enumerate(PAYMENTS):
        at = f"2013-07-01T12:{minute:02}:00Z"
        raw = {"card": "x", "event_time": at, "amount": amount, "merchant": merchant}
        logic.apply(state, Event(decode(json.dumps(raw).encode()), NOON_MS + minute * MINUTE_MS, 0, offset))
    with redis.Redis.from_url(valkey) as client:
        client.hset(logic.key_of(("x",)), mapping=logic.fields(state, logic.row(state)))

    async def read(minutes: list[int]) -> dict[str, list[float]]:
        async with OnlineReader.connect(settings, plan.service("cards")) as reader:
            times_ms = np.array([NOON_MS + minute * MINUTE_MS for minute in minutes])
            served = await reader.read({"card": ["x"] * len(minutes)}, times_ms)
            return {name: column.tolist() for name, column in served.columns.items()}

    served: dict[str, Any] = asyncio.run(read([8, 14, 20]))
    p90 = served.pop("p90")
    np.testing.assert_allclose(p90, [20, 50, 50], rtol=2**-7)
    assert served.pop("tumbling")[1:] == [35, 50]
    assert served == {
        "last_amount": [5, 50, 50],
        "hopping": [pytest.approx(math.nan, nan_ok=True), 35, 85],
        "session": [3, 1, 0],
        "faster": [3, 2, -2],
        "merchants": [2, 3, 3],
    }


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ('"idle_seconds": "60"', '"idle_seconds": "soon"', "idle_seconds"),
        ('"idle_seconds": "60"', '"idle_seconds": "0"', "idle_seconds"),
        ("timedelta(seconds=30)", "timedelta(days=3)", "watermark_delay_threshold"),
        ("session 5m", "session 5s", "tag window"),
        ('"merchants", dtype=Int64', '"merchants", dtype=String', "feature 'merchants'"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(before: str, after: str, named: str, tmp_path: Path) -> None:
    assert before in DEFINITIONS
    repository = write_cards(tmp_path / "repository", "windows", DEFINITIONS.replace(before, after))
    with pytest.raises(PlanError, match=named) as refused:
        feast_repository.apply(Settings(home=tmp_path / "home", feature_repo=repository))
    assert "view 'windows_by_card'" in str(refused.value)
