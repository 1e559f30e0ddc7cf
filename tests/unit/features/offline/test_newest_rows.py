"""What the skew check keeps of the past of views without a time to live, and what it spares."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord
from services.feature_store.plan import (
    Column,
    FeatureAggregation,
    FeaturePlan,
    FeatureReference,
    ValueType,
    View,
    ViewKind,
)
from services.features.decoder import SourceDecoder
from services.features.offline import skew_check
from services.features.offline.archived_events import Archive, Judged, Stretch
from services.features.offline.newest_rows import Kept, NewestEvents, newest_of
from services.features.offline.skew import lines
from services.features.offline.skew_check import SkewCheck
from services.features.view_state import Event, ViewLogic
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from services.runtime.watermarks import NEVER
from streams import records, topics
from tests.shop import stamp
from tests.unit.features.test_offline import SOURCE, START_MS, TOPIC, Record, order

SHOP = (Column("shop", ValueType.STRING),)
VIEW = View(
    name="by_shop",
    kind=ViewKind.WINDOWED,
    join_keys=SHOP,
    features=(Column("total", ValueType.DOUBLE), Column("orders", ValueType.INT64)),
    ttl_ms=0,
    source=SOURCE,
    aggregations=(
        FeatureAggregation("total", "amount", "sum", 60_000),
        FeatureAggregation("orders", "amount", "count", 60_000),
    ),
    hop_ms=10_000,
)
LAST = View(
    name="last_of_shop",
    kind=ViewKind.LATEST,
    join_keys=SHOP,
    features=(Column("amount", ValueType.DOUBLE),),
    ttl_ms=0,
    source=SOURCE,
)
LOGIC = ViewLogic("p", VIEW)


@dataclasses.dataclass
class Bought:
    """As much of an event as the logic reads."""

    shop: str | None
    value: bytes = b""


bought = st.tuples(
    st.sampled_from(["mill", "dock", None]), st.integers(0, 9), st.integers(0, 1), st.integers(0, 99)
)


@given(
    st.lists(st.lists(bought, max_size=6), max_size=5, unique_by=str),
    st.lists(st.integers(0, 10), max_size=5),
)
@limits(deadline=None)
def test_kept_is_the_newest_event_before_the_time_however_they_came(
    batches: list[list[tuple[str | None, int, int, int]]], untils: list[int]
) -> None:
    """Of events at the same time the one of the higher partition, then offset, as in the online store."""
    seen: dict[str, Kept] = {}
    with NewestEvents(Path(":memory:")) as newest:
        for batch, until_ms in zip(batches, sorted(untils), strict=False):
            events: list[tuple[Any, Event]] = [
                (Bought(shop), Event(Bought(shop), at_ms, partition, offset))
                for shop, at_ms, partition, offset in batch
            ]
            newest.keep("by_shop", newest_of(LOGIC, events, until_ms))
            newest.commit(TOPIC, until_ms)
            for shop, at_ms, partition, offset in batch:
                kept = Kept(at_ms, partition, offset, b"")
                if shop is not None and kept.time_ms < until_ms:
                    seen[shop] = max(seen.get(shop, kept), kept)
            keys = [LOGIC.key_of((shop,)) for shop in ("mill", "dock", "hill")]
            assert sorted(newest.of("by_shop", keys)) == sorted(seen.values())
            assert newest.until_ms(TOPIC) == until_ms


def test_a_pass_that_is_killed_leaves_what_was(tmp_path: Path) -> None:
    """Events count together with the time that they reach."""
    path = tmp_path / "newest.sqlite"
    with NewestEvents(path) as newest:
        assert newest.until_ms(TOPIC) == NEVER
        newest.keep("v", {b"a": Kept(1, 0, 1, b"old")})
        newest.commit(TOPIC, 5)
        newest.keep("v", {b"a": Kept(7, 0, 2, b"new")})
    with NewestEvents(path) as newest:
        assert (newest.until_ms(TOPIC), [*newest.of("v", [b"a", b"b"])]) == (5, [Kept(1, 0, 1, b"old")])
        newest.clear()
        assert (newest.until_ms(TOPIC), [*newest.of("v", [b"a"])]) == (NEVER, [])


MODEL = ModelDeclaration.model_validate(
    {
        "name": "m",
        "owner": "tests",
        "task": "binary",
        "request": {
            "topic": "asked",
            "id": "id",
            "event_time": "at",
            "schema": {"id": "string", "at": "timestamp", "shop": "string"},
        },
        "features": {"service": "all", "from_request": []},
        "label": {
            "topic": "labels",
            "id": "id",
            "event_time": "at",
            "value": "truth",
            "positive_above": 0.5,
            "horizon_hours": 1,
            "schema": {"id": "string", "at": "timestamp", "truth": "float"},
        },
        "gates": {"floor": 0.7},
    }
)
PLAN = FeaturePlan(
    "p",
    (VIEW, LAST),
    {"all": tuple(FeatureReference(view.name, name) for view in (VIEW, LAST) for name in view.feature_names)},
)


def append(settings: Settings, table: row_schemas.Table, topic: str, found: list[Record]) -> None:
    """Append records to a table, behind those of the topic that are there."""
    rows = [
        DecodedRecord(dataclasses.replace(record, topic=topic), table.decode(record.value or b""))
        for record in found
    ]
    DeltaWriter(settings, table).append(rows, {(topic, 0): found[-1].offset + 1})


def ask(settings: Settings, number: int, second: int, shop: str, served: list[float | None]) -> None:
    """Archive one request and what it was served."""
    at_ms = START_MS + second * 1000
    request = json.dumps({"id": f"r{number}", "at": stamp(at_ms), "shop": shop}).encode()
    prediction = records.Prediction(
        prediction_id=f"r{number}",
        model="m",
        version=0,
        arm="collecting",
        arm_weight=1,
        event_time_ms=at_ms,
        scored_time_ms=0,
        source_partition=0,
        source_offset=number,
        features=[*served],
        features_lag_ms=0,
        score=None,
        prediction=None,
    )
    append(settings, row_schemas.EVENTS, "asked", [Record(number, request)])
    append(
        settings,
        row_schemas.PREDICTIONS,
        topics.predictions("m"),
        [Record(number, records.encode(prediction))],
    )


def served_at(second: int) -> list[float | None]:
    """Work out what a shop is served that has ordered for as much as the second says, every second."""
    first = (second - 60) // 10 * 10
    return [float(sum(range(first, second + 1))), float(second + 1 - first), float(second)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of records that each reading of the archive has judged."""
    found: list[int] = []
    judge = Archive.judge

    def counted(
        self: Archive, reader: SourceDecoder, stretches: Mapping[int, Stretch] | None = None
    ) -> Iterator[Judged]:
        found.append(0)
        for judged in judge(self, reader, stretches):
            found[-1] += judged.records
            yield judged

    monkeypatch.setattr(Archive, "judge", counted)
    return found


def test_a_pass_reads_what_is_new_and_knows_what_is_old(
    tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mill orders every second, the dock has ordered once, long ago: its window is empty, not unknown."""
    monkeypatch.setattr(skew_check, "MARK_RECORDS", 50)
    monkeypatch.setattr(skew_check, "BEHIND_MS", 10_000)
    settings = Settings(home=tmp_path, skew_share=1.0)
    check = SkewCheck(settings, PLAN, MODEL, {TOPIC: 1})
    append(settings, row_schemas.EVENTS, TOPIC, [order(0, 0, amount=5.0, shop="dock")])
    for number in range(10):
        seconds = range(number * 100, number * 100 + 100)
        append(settings, row_schemas.EVENTS, TOPIC, [order(n + 1, n, amount=n, shop="mill") for n in seconds])
        if number:
            second = seconds[50]
            ask(settings, 2 * number - 2, second, "mill", served_at(second))
            ask(settings, 2 * number - 1, second, "dock", [None, 0.0, 5.0])
            report = check.run()
            assert (report.checked, report.different) == (2 * number, 0), lines(report)
    assert read[-2:][0] == 100, "what is new, to judge it"
    assert read[-1] <= 400, "what is compared, and the little before it"

    ask(settings, 18, 120, "dock", [None, 0.0, 5.0])
    report = check.run()
    assert (report.checked, report.different) == (19, 0), "an old request is compared, from the start"
