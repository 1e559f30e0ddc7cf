"""A source topic that is deleted and recreated is read from its start; its events are no repeats."""

from pathlib import Path

import pytest

from services.runtime.settings import Settings
from tests.processes import Process
from tests.recreation import recreate
from tests.shop import (
    START_MS,
    Shop,
    Till,
    a_day,
    expected_hashes,
    open_shop,
    stored_hashes,
    wait_until_complete,
    without_generation,
)
from tests.waiting import until

END_MS = START_MS + 3 * 3_600_000


@pytest.fixture
def settings(kafka: str, valkey: str, http_ports: dict[str, int], tmp_path: Path) -> Settings:
    """Settings without MLflow, which features do not need."""
    changes = {"broker": kafka, "redis_url": valkey, "home": tmp_path / "home"}
    return Settings().model_copy(update={**changes, **http_ports})


def rows_as_expected(shop: Shop, till: Till) -> bool:
    """Tell whether the rows of all entities of the new topics are those of their events alone."""
    stored = {key: without_generation(row) for key, row in stored_hashes(shop).items()}
    expected = {key: without_generation(row) for key, row in expected_hashes(shop, till.sent).items()}
    return all(expected[key].items() <= stored.get(key, {}).items() for key in expected)


@pytest.mark.parametrize(("first", "second"), [(1500, 300), (300, 1500)])
@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
def test_views_are_built_from_the_recreated_topics(
    settings: Settings, unique_name: str, tmp_path: Path, first: int, second: int, *, runs: bool
) -> None:
    """The new topics are shorter or longer than the old ones were."""
    shop = open_shop(settings, unique_name, tmp_path)
    old = Till(shop)
    with Process("features", shop.settings, log=tmp_path / "features.log") as process:
        old.send(a_day(shop, first, seed=1))
        old.beat(END_MS)
        wait_until_complete(shop, END_MS - 1)
        assert rows_as_expected(shop, old)
        old.close()
        if not runs:
            assert process.stop() == 0
        recreate(settings, [shop.orders, shop.readings])
        new = Till(shop)
        new.send(a_day(shop, second, seed=2))
        new.beat(END_MS)
        if not runs:
            process.start()
        until(
            lambda: rows_as_expected(shop, new), "the rows are those of the new topics", check=process.check
        )
        wait_until_complete(shop, END_MS - 1)
        assert rows_as_expected(shop, new)
        process.wait_ready()
        assert process.stop() == 0
    new.close()
