"""One definition, two executions: what the stream serves, and what Feast joins from the backfilled files."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from services import feast_repository, inference_log
from services.features.offline import backfill
from services.online_store import OnlineReader, ServedFeatures
from services.settings import Settings
from services.topics import ensure_topics
from streams import records, topics
from tests.flow.learning import until
from tests.processes import Process
from tests.shop import (
    PARTITIONS,
    START_MS,
    Shop,
    Till,
    a_day,
    open_shop,
    order,
    read_topic,
    wait_until_complete,
)

LATENESS_MS = 60_000
END_MS = START_MS + 3 * 3_600_000
SEEN_MS = 1_200_000
"""After the start; every shop and desk has had an event by then."""
FEATURES = (
    *("amount_sum", "amount_count", "amount_max", "amount_std", "desk_mean"),
    *("heat", "state", "open", "people"),
)


@pytest.fixture
def settings(kafka: str, valkey: str, http_ports: dict[str, int], tmp_path: Path) -> Settings:
    changes = {"broker": kafka, "redis_url": valkey, "home": tmp_path / "home"}
    return Settings().model_copy(update={**changes, **http_ports})


@pytest.fixture
def till(settings: Settings, unique_name: str, tmp_path: Path) -> Iterator[Till]:
    till = Till(open_shop(settings, unique_name, tmp_path, lateness_seconds=LATENESS_MS // 1000))
    yield till
    till.close()


def shuffled(shop: Shop, count: int, seed: int) -> list[tuple[str, int, int, bytes]]:
    """A day out of order by up to twice the lateness, every twentieth event sent twice."""
    rng = random.Random(seed)
    day = a_day(shop, count, seed)
    late = [(at + rng.randrange(2 * LATENESS_MS), event) for event in day for at in [event[2]]]
    return [event for _, event in sorted(late) for _ in range(1 + (rng.random() < 0.05))]


def send_with_heartbeats(till: Till) -> None:
    """Send a day; in the middle, heartbeats make late what the events alone would not."""
    day = shuffled(till.shop, 1600, seed=5)
    till.send(day[:800])
    middle_ms = max(event[2] for event in day[:800])
    till.beat(middle_ms + LATENESS_MS + 30_000)
    rng = random.Random(6)
    till.send(
        (till.shop.orders, n, middle_ms + 20_000, order(middle_ms + 20_000, n, rng))
        for n in range(PARTITIONS)
    )
    till.send([(till.shop.orders, 0, 0, b"{")])
    till.send(day[800:])
    till.beat(END_MS)


def archive_all(shop: Shop, log: Path) -> None:
    """Let the archive process commit everything that is on the shop's topics."""
    ensure_topics(shop.settings, {})
    with contextlib.closing(KafkaConsumer(bootstrap_servers=shop.settings.broker)) as consumer:
        partitions = [TopicPartition(t, n) for t in (shop.orders, shop.readings) for n in range(PARTITIONS)]
        ends = {(p.topic, p.partition): offset for p, offset in consumer.end_offsets(partitions).items()}
    hurry = records.RetrainingRequested(
        request_id="hurry",
        model="none",
        trigger="manual",
        requested_at_ms=0,
        reason="so that the archive commits at once",
        offsets={t: [ends[t, n] for n in range(PARTITIONS)] for t in (shop.orders, shop.readings)},
    )
    with Process("archive", shop.settings, log=log) as archive:
        archive.wait_ready()
        with contextlib.closing(KafkaProducer(bootstrap_servers=shop.settings.broker)) as producer:
            producer.send(topics.RETRAINING.name, records.encode(hurry)).get(30)

        def complete() -> bool:
            held = inference_log.positions(
                shop.settings, "events", {t: range(PARTITIONS) for t in (shop.orders, shop.readings)}
            )
            return all(held[topic][number] >= end for (topic, number), end in ends.items())

        until(complete, "everything is archived", seconds=30)


def online(shop: Shop, asked: dict[str, list[Any]], times_ms: np.ndarray[Any, Any]) -> ServedFeatures:
    async def read() -> ServedFeatures:
        async with OnlineReader.connect(shop.settings, shop.plan.service("everything")) as reader:
            return await reader.read(asked, times_ms)

    return asyncio.run(read())


def historical(shop: Shop, asked: dict[str, list[Any]], times_ms: np.ndarray[Any, Any]) -> pd.DataFrame:
    """Ask Feast itself, as a user does for a training set."""
    names = [view.name for view in shop.plan.views if view.is_stream]
    features = [f"{v.name}:{f}" for v in shop.plan.views if v.is_stream for f in v.feature_names]
    assert len(names) == 3
    frame = pd.DataFrame(
        {
            **asked,
            "row": range(len(times_ms)),
            "event_timestamp": pd.to_datetime(times_ms, unit="ms", utc=True),
        }
    )
    with feast_repository._store(shop.settings) as store:
        found: pd.DataFrame = store.get_historical_features(frame, features).to_df()
    return found.set_index("row").sort_index()


def test_feast_joins_from_the_backfilled_files_the_bits_that_were_served_online(
    till: Till, tmp_path: Path
) -> None:
    shop = till.shop
    send_with_heartbeats(till)
    with Process("features", shop.settings, log=tmp_path / "features.log") as process:
        process.wait_ready()
        archive_all(shop, tmp_path / "archive.log")
        wait_until_complete(shop, END_MS - LATENESS_MS)
    accounts = {account.view: account for account in backfill.run(shop.settings, shop.plan, lambda *_: None)}

    assert_accounts(shop, accounts)

    rng = random.Random(7)
    sent_ms = sorted({record.time_ms for record in till.sent if record.time_ms})
    jumps_ms = (-1, 0, 1, 600_000, 1_800_000, 3_600_000, 3_600_001)
    drawn = [rng.randrange(START_MS, END_MS) for _ in range(300)]
    drawn += [rng.choice(sent_ms) + rng.choice(jumps_ms) for _ in range(500)]
    shops, desks = ["mill", "dock", "hill", "nowhere"], [1, 2, 3, 99]
    requests = {(at, rng.choice(shops), rng.choice(desks)) for at in drawn if at >= START_MS + SEEN_MS}
    times, *entities = (list(column) for column in zip(*requests, strict=True))  # Feast drops equal requests
    times_ms, asked = np.array(times, dtype=np.int64), dict(zip(("shop", "desk"), entities, strict=True))
    served, joined = online(shop, asked, times_ms), historical(shop, asked, times_ms)
    assert len(joined) == len(times), "the join answers every request"
    for name in FEATURES:
        ours, theirs = served.columns[name], joined[name]
        missing = pd.isna(ours) | (np.array(asked["shop"]) == "nowhere")
        assert pd.isna(theirs).tolist() == missing.tolist(), name
        assert 100 < missing.sum() < len(times) - 100, f"{name}: both cases are there"
        if name == "state":
            assert theirs[~missing].tolist() == ours[~missing].tolist()
        else:
            bits = theirs[~missing].to_numpy(dtype=np.float64).view(np.int64)
            assert bits.tolist() == ours[~missing].view(np.int64).tolist(), name


def assert_accounts(shop: Shop, accounts: dict[str, backfill.Account]) -> None:
    """Lateness was judged as the stream did, record by record; nothing was dropped in silence."""
    for view in shop.plan.views:
        if not view.is_stream:
            continue
        account = accounts[view.name]
        late = read_topic(shop.settings.broker, topics.late(view.name))
        assert account.late == len(late) > PARTITIONS * ("latest" not in view.name)
        assert account.invalid == ("latest" not in view.name)
        file = pq.read_table(account.path)
        assert file.num_rows == account.rows + account.entities
