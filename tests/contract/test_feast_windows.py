"""Windows that Feast's own objects declare, from its registry to the plan, and served from the store."""

import asyncio
import json
import math
import operator
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis
from feast.data_format import AvroFormat, JsonFormat, ProtoFormat

from services.feature_store import aggregation_compiler, repository
from services.feature_store.feast_layout import sidecar_field
from services.feature_store.online_reader import OnlineReader
from services.feature_store.plan import PlanError
from services.feature_store.view_compiler import message_fields
from services.features.view_state import Event, ViewLogic
from services.runtime.settings import Settings
from streams.codec import EventDecoder, parse_ddl
from streams.schemas import Encoding
from streams.spans import WindowChange
from streams.tile_layout import TileLayout
from streams.tiles import Tiles
from tests.cards import DEFINITIONS, write_cards

NOON_MS = 1_372_680_000_000
MINUTE_MS = 60_000
PAYMENTS = ((1, 10, "a"), (4, 20, "b"), (8, 5, "a"), (14, 50, "c"))
"""Minute, amount and merchant."""


def test_what_feast_and_the_tags_declare_is_planned_and_served_at_any_time(
    valkey: str, tmp_path: Path
) -> None:
    feature_repo = write_cards(tmp_path / "repository", "windows")
    settings = Settings(redis_url=valkey, home=tmp_path / "home", feature_repo=feature_repo)
    plan = repository.apply(settings)
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
    assert planned["faster"].change is WindowChange.DIFFERENCE
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


def test_types_beside_doubles_and_the_whole_life_reach_feasts_readers(valkey: str, tmp_path: Path) -> None:
    from feast import FeatureStore

    feature_repo = write_cards(tmp_path / "repository", "lives")
    settings = Settings(redis_url=valkey, home=tmp_path / "home", feature_repo=feature_repo)
    plan = repository.apply(settings)
    view = plan.view("lives_lives")
    assert view.source is not None
    assert [item.window_ms for item in view.aggregations] == [0, 0, 0, 0, 0, 60 * MINUTE_MS, 0]
    logic, decode = ViewLogic(plan.project, view), EventDecoder(view.source.fields).decode
    state = logic.load(None)
    for offset, (minute, amount, merchant) in enumerate([(-(10**6), 0.1, "z"), *PAYMENTS]):
        raw = {"card": "x", "event_time": "2013-07-01T12:00:00Z", "amount": amount, "merchant": merchant}
        event = decode(json.dumps({**raw, "paid": minute > 0}).encode())
        logic.apply(state, Event(event, NOON_MS + minute * MINUTE_MS, 0, offset))
        state = logic.load(logic.fields(state, logic.row(state))[sidecar_field(view.name)])
    with redis.Redis.from_url(valkey) as client:
        client.hset(logic.key_of(("x",)), mapping=logic.fields(state, logic.row(state)))
    names = [f"lives_lives:{name}" for name in view.feature_names]
    with repository.environment(settings):
        store = FeatureStore(repo_path=str(feature_repo))
        found = store.get_online_features(names, [{"card": "x"}]).to_dict()
    assert {name: found[name][0] for name in view.feature_names} == {
        "life_sum": float(np.float32(85.1)),
        "payments": 5,
        "mean_by_ten": float(np.float32(35.1 / 4)),
        "count_distinct_merchant": 4,
        "last_merchant": "c",
        "first_merchant": "a",
        "last_paid": True,
    }


def test_aggregates_of_a_whole_life_are_those_of_feasts_own_engine() -> None:
    from feast.aggregation import Aggregation, aggregation_specs_to_agg_ops
    from feast.infra.compute_engines.backends.pandas_backend import PandasBackend

    ends = ("count", "count_distinct", "first", "last")
    declared = [Aggregation("merchant", function) for function in ends]
    declared += [Aggregation("amount", function) for function in ("sum", "mean", "min", "max", "std", "var")]
    declared += [Aggregation("amount", function) for function in ends]
    rng = random.Random(4)
    rows = [
        (rng.randrange(10**9), rng.choice([None, rng.uniform(-9, 9)]), rng.choice([None, *"abc"]))
        for _ in range(300)
    ]
    events = pd.DataFrame(sorted(rows, key=operator.itemgetter(0)), columns=["time_ms", "amount", "merchant"])
    operations = aggregation_specs_to_agg_ops(declared, time_window_unsupported_error_message="windows")
    (theirs,) = PandasBackend().groupby_agg(events.assign(card="x"), ["card"], operations).to_dict("records")
    view = SimpleNamespace(name="lives", aggregations=declared, tags={}, tiling_hop_size=None)
    fields = {field.name: field for field in parse_ddl("amount double, merchant string")}
    ours = aggregation_compiler.aggregations(view, fields)
    layout = TileLayout(ours, aggregation_compiler.hop_ms(view))
    tiles = Tiles(layout)
    for time_ms, amount, merchant in rows:
        values = {"amount": amount, "merchant": merchant}
        tiles.add(time_ms, [values[column] for column in layout.columns])
    for item, value in zip(ours, tiles.newest_values(), strict=True):
        expected = theirs[item.feature]
        assert value == (expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-12)), (
            item.feature
        )


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
    feature_repo = write_cards(tmp_path / "repository", "windows", DEFINITIONS.replace(before, after))
    with pytest.raises(PlanError, match=named) as refused:
        repository.apply(Settings(home=tmp_path / "home", feature_repo=feature_repo))
    assert "view 'windows_by_card'" in str(refused.value)


@pytest.mark.parametrize(
    ("message_format", "tags", "encoding"),
    [
        (JsonFormat("shop string not null, amount double"), {}, Encoding.JSON),
        (JsonFormat("shop string not null, amount double"), {"encoding": "avro"}, Encoding.AVRO),
        (
            JsonFormat("shop string not null, amount double"),
            {"encoding": "json_schema"},
            Encoding.JSON_SCHEMA,
        ),
        (
            AvroFormat(
                '{"type": "record", "name": "Sale", "fields": [{"name": "shop", "type": "string"}, '
                '{"name": "amount", "type": ["null", "double"]}]}'
            ),
            {},
            Encoding.AVRO,
        ),
    ],
)
def test_a_source_says_how_its_topic_is_written(message_format, tags, encoding):
    """Feast's format declares it, or a tag where the format cannot."""
    assert message_fields("here", message_format, tags) == (
        parse_ddl("shop string not null, amount double"),
        encoding,
    )


@pytest.mark.parametrize(
    ("message_format", "tags", "reason"),
    [
        (JsonFormat("shop string"), {"encoding": "xml"}, "message_format: 'xml' is not a valid Encoding"),
        (AvroFormat('"string"'), {}, "cannot read the Avro schema"),
        (ProtoFormat("shop.Sale"), {}, "must be JsonFormat or AvroFormat, not ProtoFormat"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_with_its_place(message_format, tags, reason):
    with pytest.raises(PlanError, match=f"^here: .*{reason}"):
        message_fields("here", message_format, tags)
