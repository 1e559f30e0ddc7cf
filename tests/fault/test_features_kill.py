"""kill -9 of the features process while events arrive: in the end the store is as without the kill."""

import random
from pathlib import Path

import pytest

from services.runtime.settings import Settings
from tests.processes import Process
from tests.shop import START_MS, Till, a_day, expected_hashes, open_shop, stored_hashes, wait_until_complete

ROUNDS = 2
ROUND_MS = 7_200_000
EVENTS_PER_ROUND = 2500


@pytest.fixture
def settings(kafka: str, valkey: str, http_ports: dict[str, int], tmp_path: Path) -> Settings:
    """Settings without MLflow, and with small slices, so that kills hit them at many points."""
    changes = {
        "broker": kafka,
        "redis_url": valkey,
        "home": tmp_path / "home",
        "features_slice_records_max": 50,
    }
    return Settings().model_copy(update={**changes, **http_ports})


def test_store_after_kills_equals_the_undisturbed_one(
    settings: Settings, unique_name: str, tmp_path: Path
) -> None:
    shop = open_shop(settings, unique_name, tmp_path)
    till = Till(shop)
    rng = random.Random(7)
    with Process("features", shop.settings, log=tmp_path / "features.log") as process:
        process.wait_ready()
        for round_ in range(ROUNDS):
            start_ms = START_MS + round_ * ROUND_MS
            events = a_day(shop, EVENTS_PER_ROUND, seed=round_, start_ms=start_ms)
            cut = rng.randrange(len(events))
            till.send(events[:cut])
            till.beat(events[cut][2] - 1)
            killed_at_ms = events[rng.randrange(cut // 2 + 1)][2] - 1
            wait_until_complete(shop, killed_at_ms)  # so the kill comes some time after that
            process.kill()
            till.send(events[cut:])
            process.start()
        till.beat(START_MS + ROUNDS * ROUND_MS)
        wait_until_complete(shop, START_MS + ROUNDS * ROUND_MS - 1)
        code = process.stop()
    till.close()
    assert stored_hashes(shop) == expected_hashes(shop, till.sent)
    assert code == 0
