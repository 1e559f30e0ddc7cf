"""Events on a real Kafka become exact rows on a real Valkey, and values are served at any event time."""

import asyncio
import functools
import json
import math
import os
import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from bench.scoring_job.installation import JOB, write_features
from services.feature_store.online_reader import OnlineReader
from services.feature_store.served_features import ServedFeatures
from services.runtime.settings import Settings
from streams import records, topics
from tests.processes import Process
from tests.shop import (
    START_MS,
    Sent,
    Shop,
    Till,
    a_day,
    expected_hashes,
    open_shop,
    order,
    read_topic,
    stored_hashes,
    wait_until_complete,
)
from tests.waiting import LIVENESS_SECONDS

END_MS = START_MS + 3 * 3_600_000
MINUTE_MS = 60_000


@pytest.fixture
def settings(kafka: str, valkey: str, http_ports: dict[str, int], tmp_path: Path) -> Settings:
    """Settings without MLflow, which features do not need."""
    changes = {"broker": kafka, "redis_url": valkey, "home": tmp_path / "home"}
    return Settings().model_copy(update={**changes, **http_ports})


@pytest.fixture
def shop(settings: Settings, unique_name: str, tmp_path: Path) -> Shop:
    return open_shop(settings, unique_name, tmp_path)


@pytest.fixture
def till(shop: Shop) -> Iterator[Till]:
    till = Till(shop)
    yield till
    till.close()


def read(shop: Shop, entities: dict[str, list[Any]], times_ms: Sequence[int]) -> ServedFeatures:
    async def serve() -> ServedFeatures:
        async with OnlineReader.connect(shop.settings, shop.plan.service("everything")) as reader:
            assert await reader.wait_for(END_MS - 1, timeout_seconds=LIVENESS_SECONDS)
            return await reader.read(entities, np.array(times_ms, dtype=np.int64))

    return asyncio.run(serve())


def window(
    sent: Sequence[Sent],
    shop_name: str,
    desk: int | None,
    at_ms: int,
    window_ms: int,
    column: str = "amount",
) -> list[float]:
    """Return the amounts of a window by its definition; a tile is one minute."""
    first_ms = (at_ms - window_ms) // MINUTE_MS * MINUTE_MS
    events = [
        json.loads(record.value)
        for record in sent
        if first_ms <= record.time_ms <= at_ms and "orders" in record.topic
    ]
    chosen = [event for event in events if event["shop"] == shop_name and desk in (None, event["desk"])]
    return [event[column] for event in chosen if event[column] is not None]


def test_served_values_equal_the_definition_and_the_store_equals_the_oracle(
    shop: Shop, till: Till, tmp_path: Path
) -> None:
    with Process("features", shop.settings, log=tmp_path / "features.log") as process:
        till.send(a_day(shop, 1500, seed=1))
        till.beat(END_MS)
        process.wait_ready()
        wait_until_complete(shop, END_MS - 1)
        rng = random.Random(2)
        asked_ms = [rng.randrange(START_MS - 600_000, START_MS + 7_500_000) for _ in range(400)]
        shops = [rng.choice(["mill", "dock", "nowhere"]) for _ in asked_ms]
        desks = [rng.choice([1, 2, 99]) for _ in asked_ms]
        served = read(shop, {"shop": shops, "desk": desks}, asked_ms)
        assert stored_hashes(shop) == expected_hashes(shop, till.sent)
        body = {"feature_service": "everything", "entities": {"shop": ["mill"], "desk": [1]}}
        ask = functools.partial(httpx.post, f"{process.url}/get-online-features", timeout=LIVENESS_SECONDS)
        answer = ask(json=body)
        unknown = ask(json={**body, "feature_service": "no_such"})
        missing = ask(json={**body, "entities": {"shop": ["mill"]}})

    for row, at_ms in enumerate(asked_ms):
        amounts = window(till.sent, shops[row], None, at_ms, 600_000)
        seen = any(window(till.sent, shops[row], None, at_ms, at_ms, column="event_time"))
        np.testing.assert_equal(served.columns["amount_count"][row], len(amounts) if seen else math.nan)
        expected_sum = math.fsum(amounts) if amounts else math.nan
        np.testing.assert_equal(served.columns["amount_sum"][row], expected_sum)
        longer = window(till.sent, shops[row], None, at_ms, 1_800_000)
        np.testing.assert_equal(served.columns["amount_max"][row], max(longer, default=math.nan))
        deviation = statistics.stdev(longer) if len(longer) > 1 else math.nan
        np.testing.assert_allclose(served.columns["amount_std"][row], deviation, rtol=1e-12)
        own = window(till.sent, shops[row], desks[row], at_ms, 600_000)
        np.testing.assert_allclose(
            served.columns["desk_mean"][row], math.fsum(own) / len(own) if own else math.nan, rtol=1e-15
        )
        assert_latest(served, row, till.sent, shops[row], at_ms)
    assert served.beyond_retention == 0
    assert set(served.lag_ms.tolist()) == {0}
    assert_feast_form(answer.json())
    assert (unknown.status_code, missing.status_code) == (404, 400)
    assert "no_such" in unknown.text
    assert "desk" in missing.text


def assert_latest(served: ServedFeatures, row: int, sent: Sequence[Sent], shop_name: str, at_ms: int) -> None:
    known = [
        (record.time_ms, record.partition, record.offset, json.loads(record.value))
        for record in sent
        if "readings" in record.topic and at_ms - 3_600_000 <= record.time_ms <= at_ms
    ]
    newest = max(
        (event for event in known if event[3]["shop"] == shop_name), key=lambda event: event[:3], default=None
    )
    event: dict[str, Any] = newest[3] if newest else {}
    np.testing.assert_equal(served.columns["heat"][row], event.get("heat", math.nan))
    assert served.columns["state"][row] == event.get("state")
    np.testing.assert_equal(served.columns["people"][row], float(event.get("people", math.nan)))


def assert_feast_form(answer: dict[str, Any]) -> None:
    names = answer["metadata"]["feature_names"]
    results = dict(zip(names, answer["results"], strict=True))
    assert names[:2] == ["shop", "desk"] or names[:2] == ["desk", "shop"]
    assert results["shop"] == {
        "values": ["mill"],
        "statuses": ["PRESENT"],
        "event_timestamps": ["1970-01-01T00:00:00Z"],
    }
    assert results["amount_count"]["values"] == [0.0]  # the shop has no events today
    assert results["amount_sum"]["statuses"] == ["NULL_VALUE"]
    assert results["amount_sum"]["event_timestamps"][0].startswith("2013-07-01T13:")
    assert results["width"]["statuses"] == ["NOT_FOUND"]


def test_invalid_records_are_dead_letters_late_ones_go_aside_and_others_count(
    settings: Settings, unique_name: str, tmp_path: Path
) -> None:
    shop = open_shop(settings, unique_name, tmp_path, lateness_seconds=60)
    till = Till(shop)
    rng = random.Random(3)
    good = [order(START_MS + second * 1000, second, rng) for second in range(400)]
    bad = [
        b"{",
        b"",
        b'{"shop": "mill"}',
        good[0].replace(b'"order_id": "o0"', b'"order_id": 7'),
        b"\xff\xfe",
    ]
    within, beyond = order(START_MS + 339_000, 1001, rng), order(START_MS + 338_999, 1002, rng)
    with Process("features", shop.settings, log=tmp_path / "features.log") as process:
        till.send((shop.orders, 0, START_MS + s * 1000, value) for s, value in enumerate(good))
        kept = list(till.sent)
        till.send((shop.orders, 0, START_MS, value) for value in bad)
        kept += till.send([(shop.orders, 0, START_MS + 339_000, within)])
        till.send([(shop.orders, 0, START_MS + 338_999, beyond)])
        till.beat(END_MS)
        process.wait_ready()
        wait_until_complete(shop, END_MS - 60_001)
        assert stored_hashes(shop) == expected_hashes(shop, kept)
    till.close()
    letters = [
        msgspec.json.decode(r.value, type=records.DeadLetter)
        for r in read_topic(settings.broker, topics.DEAD_LETTERS.name)
        if r.value is not None  # a tombstone of a replay
    ]
    assert sorted(letter.value or b"" for letter in letters if letter.topic == shop.orders) == sorted(bad)
    assert all(letter.reason for letter in letters)
    for view in ("by_shop", "by_desk"):
        late = read_topic(settings.broker, topics.late(f"{shop.prefix}_{view}"))
        assert [record.value for record in late] == [beyond]
    log = [
        msgspec.json.decode(r.value, type=records.FeatureRow)
        for r in read_topic(settings.broker, topics.FEATURE_LOG.name)
    ]
    assert {row.view for row in log if row.view.startswith(shop.prefix)} == {
        f"{shop.prefix}_by_shop",
        f"{shop.prefix}_by_desk",
    }


def test_repository_without_stream_views_leaves_nothing_to_do_and_the_process_is_ready(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"feature_repo": JOB / "feature_repo"})
    monkeypatch.setitem(os.environ, "DRIFTLINE_HOME", str(settings.home))
    monkeypatch.setitem(os.environ, "DRIFTLINE_ONLINE_STORE", "")
    settings.home.mkdir()
    write_features(settings)
    with Process("features", settings, log=tmp_path / "features.log") as process:
        process.wait_ready()
        assert "features.nothing_to_do" in process.output()
        assert process.stop() == 0
