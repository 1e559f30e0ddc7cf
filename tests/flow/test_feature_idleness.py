"""Idle source partitions on a real Kafka: the watermark passes them; older events are late."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.feature_store import repository
from services.runtime.settings import Settings
from streams import codec, topics
from tests.processes import Process
from tests.shop import START_MS, Shop, Till, open_shop, order, read_topic, reading, wait_until_complete

MINUTE_MS = 60_000


@pytest.fixture
def settings(kafka: str, valkey: str, http_ports: dict[str, int], tmp_path: Path) -> Settings:
    changes = {"broker": kafka, "redis_url": valkey, "home": tmp_path / "home"}
    return Settings().model_copy(update={**changes, **http_ports})


@pytest.fixture
def shop(settings: Settings, unique_name: str, tmp_path: Path) -> Shop:
    shop = open_shop(settings, unique_name, tmp_path)
    definitions = shop.settings.feature_repo / "definitions.py"
    declared = definitions.read_text(encoding="utf-8").replace(
        'tags={"message_key"', 'tags={"idle_seconds": "1", "message_key"'
    )
    definitions.write_text(declared, encoding="utf-8")
    plan = repository.apply(shop.settings)
    assert {view.source.idle_ms for view in plan.views if view.source is not None} == {1000}
    return Shop(shop.prefix, shop.settings, plan)


@pytest.fixture
def till(shop: Shop) -> Iterator[Till]:
    till = Till(shop)
    yield till
    till.close()


def test_idle_partitions_do_not_hold_the_watermark_back_and_later_events_are_late(
    shop: Shop, till: Till, tmp_path: Path
) -> None:
    rng = random.Random(3)
    newest_ms = START_MS + 10 * MINUTE_MS
    records = [
        (shop.orders, 0, START_MS + minute * MINUTE_MS, order(START_MS + minute * MINUTE_MS, minute, rng))
        for minute in range(11)
    ]
    records.append((shop.readings, 1, newest_ms, reading("mill", newest_ms, rng)))
    till.send(records)
    with Process("features", shop.settings, log=tmp_path / "features.log"):
        wait_until_complete(shop, newest_ms - 1)
        late_ms = START_MS + MINUTE_MS
        (late,) = till.send([(shop.orders, 2, late_ms, order(late_ms, 99, rng))])
        next_ms = newest_ms + MINUTE_MS
        till.send([(shop.orders, 0, next_ms, order(next_ms, 100, rng))])
        till.send([(shop.readings, 1, next_ms, reading("mill", next_ms, rng))])
        wait_until_complete(shop, next_ms - 1)
    found = read_topic(shop.settings.broker, shop.orders)
    beats = [record for record in found if record.value is None]
    assert {record.partition for record in beats} == {1, 2, 3}
    assert {codec.watermark_of(record.headers) for record in beats} <= {newest_ms - 1, next_ms - 1}
    assert len(beats) <= 8  # they follow the watermark, not the clock
    late_records = read_topic(shop.settings.broker, topics.late(f"{shop.prefix}_by_shop"))
    assert [record.value for record in late_records] == [late.value]
