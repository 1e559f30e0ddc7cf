"""Features of sampled requests, recomputed from archived events."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from services.feature_store.plan import (
    Column,
    FeatureAggregation,
    FeaturePlan,
    ServiceFeature,
    ValueType,
    View,
    ViewKind,
)
from services.features.decoder import SourceDecoder
from services.features.offline.archived_events import EventArchive
from services.features.offline.newest_events import NewestEvents
from services.features.offline.prediction_sample import SampledRequest
from services.features.offline.recomputation import Recomputation
from services.features.offline.skew_report import SkewReport
from services.features.offline.skew_state import SkewState
from services.features.offline.watermark_index import IndexEntry
from services.features.view_state import ViewLogic
from services.runtime.settings import Settings
from tests.unit.features.offline.archived_orders import SOURCE, START_MS, TOPIC, archive, order

SHOP = (Column("shop", ValueType.STRING),)
TOTAL = View(
    "by_shop",
    ViewKind.WINDOWED,
    SHOP,
    (Column("total", ValueType.DOUBLE),),
    0,
    SOURCE,
    (FeatureAggregation("total", "amount", "sum", 60_000),),
    10_000,
)
FACTS = View("facts", ViewKind.BATCH, SHOP, (Column("size", ValueType.INT64),), 0)
PLAN = FeaturePlan(
    "p", (TOTAL, FACTS), {"all": (ServiceFeature("by_shop", "total"), ServiceFeature("facts", "size"))}
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def recomputation(settings: Settings, tmp_path: Path) -> Iterator[Recomputation]:
    """Two shops with orders; no batch view has been materialised."""
    archive(settings, order(0, 10, 1.0), order(1, 30, 2.0), order(2, 40, 4.0, shop="dock"), order(3, 95, 8.0))
    decoder = SourceDecoder(SOURCE, settings.record_bytes_max)
    state = SkewState(SkewReport(model="m", features=[]), "d", index={TOPIC: {0: [IndexEntry()]}})
    with (
        contextlib.closing(EventArchive(settings, tmp_path)) as source,
        NewestEvents(tmp_path / "newest.sqlite") as newest,
    ):
        sources = [(decoder, [ViewLogic("p", TOTAL)])]
        yield Recomputation(
            PLAN.service("all"), sources, source, newest, tmp_path, state, {}, disorder_ms=10_000
        )


def request(second: float, shop: str | None) -> SampledRequest:
    value: Any = SimpleNamespace(shop=shop)
    return SampledRequest("r", START_MS + round(second * 1000), 0, value, [None, None])


def own(second: float, shop: str, amount: float) -> SampledRequest:
    value: Any = SimpleNamespace(shop=shop, amount=amount)
    return SampledRequest("r", START_MS + round(second * 1000), 0, value, [None, None])


def test_a_request_is_in_its_own_features_as_declared(recomputation: Recomputation) -> None:
    """The orders at 10, 30, 40 and 95 s are the requests themselves; the fifth shop has no other."""
    asked = [own(10, "mill", 1.0), own(30, "mill", 2.0), own(40, "dock", 4.0), own(95, "mill", 8.0)]
    asked.append(own(50, "hill", 5.0))
    for declared, expected in (
        ("included", [1.0, 3.0, 4.0, 10.0, 5.0]),
        ("excluded", [None, 1.0, None, 2.0, None]),
    ):
        service = recomputation.service.for_requests(TOPIC, declared)
        found = dataclasses.replace(recomputation, service=service)
        assert totals(found, *asked) == expected


def totals(recomputation: Recomputation, *requests: SampledRequest) -> list[Any]:
    return [row[0] for row in recomputation.rows(requests)]


def test_values_are_those_at_each_request_in_any_order_of_requests(recomputation: Recomputation) -> None:
    asked = [request(35, "mill"), request(9.999, "mill"), request(10, "mill"), request(100, "mill")]
    assert totals(recomputation, *asked) == [3.0, None, 1.0, 8.0]
    assert totals(recomputation, *reversed(asked)) == [8.0, 1.0, None, 3.0]


def test_each_request_gets_the_value_of_its_own_entity(recomputation: Recomputation) -> None:
    asked = [request(50, "dock"), request(50, "mill"), request(50, "hill"), request(50, None)]
    assert totals(recomputation, *asked) == [4.0, 3.0, None, None]


def test_batch_view_that_was_never_materialised_cannot_be_recomputed(recomputation: Recomputation) -> None:
    ((_, size),) = recomputation.rows([request(50, "mill")])
    assert size is msgspec.UNSET


def test_pass_stores_the_newest_events_before_its_disorder(recomputation: Recomputation) -> None:
    """The next pass needs no event before that time, but one event of each entity."""
    recomputation.rows([request(200, "mill")])
    logic = ViewLogic("p", TOTAL)
    reached_ms = recomputation.newest.until_ms(TOPIC)
    (dock,) = recomputation.newest.find("by_shop", [logic.key_of(("dock",))])
    assert (dock.offset, reached_ms > START_MS + 40_000) == (2, True)
    assert totals(recomputation, request(210, "dock"), request(210, "mill")) == [None, None]
