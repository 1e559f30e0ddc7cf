"""Our bytes on Redis are Feast's, in both directions, and the plan holds what the repository declares."""

import datetime as dt
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature_store import feast_layout, plan_cache, repository
from services.feature_store.feast_layout import LayoutError
from services.feature_store.online_reader import OnlineReader
from services.feature_store.plan import Column, FeaturePlan, PlanError, ValueType, ViewKind
from services.features.view_state import Event, ViewLogic
from services.runtime.redis_pipeline import AsyncPipeline
from services.runtime.settings import Settings
from streams.codec import EventDecoder
from tests.repositories import write_shop

NOON_MS = 1_372_680_000_000
"""2013-07-01T12:00:00Z"""
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
int32s, int64s = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module")
def shop_settings(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("feast")
    feature_repo = write_shop(folder / "repository", "layout")
    return Settings(redis_url=valkey, home=folder / "home", feature_repo=feature_repo)


@pytest.fixture(scope="module")
def plan(shop_settings: Settings) -> FeaturePlan:
    return repository.apply(shop_settings)


@pytest.fixture
def feast_store(shop_settings: Settings, plan: FeaturePlan) -> Iterator[Any]:
    with repository.feast_store(shop_settings) as store:
        yield store


@pytest.fixture
def client(valkey: str) -> Iterator[Any]:
    import redis

    with redis.Redis.from_url(valkey) as client:
        yield client


@given(texts, int64s, int32s, st.text("abcxyz_", min_size=1))
def test_entity_key_equals_that_of_feast(text: str, int64: int, int32: int, project: str) -> None:
    from feast.infra.online_stores.helpers import _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    columns = [
        Column("shop", ValueType.STRING),
        Column("desk", ValueType.INT64),
        Column("area", ValueType.INT32),
    ]
    values = [Value(string_val=text), Value(int64_val=int64), Value(int32_val=int32)]
    for size in (1, 2, 3):
        ours = feast_layout.entity_key_encoder(project, columns[:size])((text, int64, int32)[:size])
        names = [column.name for column in columns[:size]]
        theirs = _redis_key(project, EntityKey(join_keys=names, entity_values=values[:size]))
        assert ours == theirs


@given(texts, texts)
def test_field_names_equal_those_of_feast(view: str, feature: str) -> None:
    from feast.infra.online_stores.helpers import _mmh3

    assert feast_layout.feature_field(view, feature) == _mmh3(f"{view}:{feature}")


SCALARS: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.STRING: texts,
    ValueType.BYTES: st.binary(),
    ValueType.INT64: int64s,
    ValueType.INT32: int32s,
    ValueType.DOUBLE: st.floats(allow_nan=False),
    ValueType.FLOAT: st.floats(allow_nan=False, width=32),
    ValueType.BOOL: st.booleans(),
    ValueType.UNIX_TIMESTAMP: st.integers(-(2**63) + 1, 2**63 - 1),
}


@given(st.sampled_from(list(SCALARS)).flatmap(lambda kind: st.tuples(st.just(kind), st.lists(SCALARS[kind]))))
def test_values_of_every_type_equal_those_of_feast_and_are_read_back(
    drawn: tuple[ValueType, list[Any]],
) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    kind, values = drawn
    theirs = Value()
    getattr(theirs, f"{kind}_list_val").SetInParent()
    getattr(theirs, f"{kind}_list_val").val.extend(values)
    raw = feast_layout.encode_value(ValueType(f"{kind}_list"), values)
    assert raw == theirs.SerializeToString()
    assert feast_layout.decode_value(raw) == values
    for value in values:
        raw = feast_layout.encode_value(kind, value)
        assert raw == Value(**{f"{kind}_val": value}).SerializeToString()
        assert feast_layout.decode_value(raw) == value


COLUMNS = st.sampled_from(list(SCALARS)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.none() | SCALARS[kind])
)
NUMBERS = st.sampled_from([ValueType.DOUBLE, ValueType.FLOAT]).flatmap(
    lambda kind: st.tuples(st.just(kind), SCALARS[kind])
)


@given(st.lists(COLUMNS) | st.lists(NUMBERS, min_size=1))
def test_a_row_holds_each_value_as_it_stands_alone(columns: list[tuple[ValueType, Any]]) -> None:
    """Rows of numbers alone take another way to the same bytes."""
    values = [value for _, value in columns]
    alone = [feast_layout.encode_value(kind, value) for kind, value in columns]
    row_format = feast_layout.RowFormat([kind for kind, _ in columns])
    raw = row_format.encode(values)
    assert raw == b"".join(len(each).to_bytes(4, "little") + each for each in alone)
    assert list(row_format.split(raw)) == feast_layout.split_row(raw) == alone
    assert list(row_format.decode(raw)) == values


def test_every_kind_of_null_of_feast_is_null() -> None:
    from feast.protos.feast.types.Value_pb2 import NULL, Value

    for kind in ValueType:
        assert feast_layout.encode_value(kind, None) == Value().SerializeToString()
    for null in (Value(), Value(null_val=NULL), Value(unix_timestamp_val=-(2**63))):
        assert feast_layout.decode_value(null.SerializeToString()) is None
    assert feast_layout.decode_value(None) is None


def test_a_value_of_another_type_is_refused() -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    with pytest.raises(LayoutError, match="0x1"):
        feast_layout.decode_value(Value(json_val="{}").SerializeToString())


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_timestamps_equal_those_of_feast_and_are_read_back(time_ms: int) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # ships none

    theirs = Timestamp()
    theirs.FromMilliseconds(time_ms)
    raw = feast_layout.encode_timestamp(time_ms)
    assert raw == theirs.SerializeToString()
    assert feast_layout.decode_timestamp(raw) == time_ms


def orders(plan: FeaturePlan, view: str) -> tuple[ViewLogic, Any]:
    """Return a view's logic, and the state of shop ``mill`` after three orders."""
    logic = ViewLogic(plan.project, plan.view(view))
    source = plan.view(view).source
    assert source is not None
    decode = EventDecoder(source.fields).decode
    state = logic.load(None)
    for offset, (minute, amount) in enumerate([(0, 4.5), (5, 2.25), (12, None)]):
        time_ms = NOON_MS + minute * 60_000
        stamp = dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).isoformat()
        event = {"order_id": "1", "event_time": stamp, "shop": "mill", "desk": 7, "amount": amount}
        assert logic.apply(state, Event(decode(json.dumps(event).encode()), time_ms, 0, offset))
    return logic, state


def test_feast_reads_the_rows_that_we_write(plan: FeaturePlan, feast_store: Any, client: Any) -> None:
    for view, entity in (("layout_by_shop", ("mill",)), ("layout_by_desk", (7, "mill"))):
        logic, state = orders(plan, view)
        client.hset(logic.key_of(entity), mapping=logic.fields(state, logic.row(state)))
    answer = feast_store.get_online_features(
        features=[
            "layout_by_shop:amount_sum",
            "layout_by_shop:amount_count",
            "layout_by_shop:amount_max",
            "layout_by_shop:amount_std",
            "layout_by_desk:desk_mean",
            "layout_by_desk:desk_life",
        ],
        entity_rows=[{"shop": "mill", "desk": 7}],
    )
    served = {name: values[0] for name, values in answer.to_dict().items()}
    assert served["amount_sum"] == 2.25  # the tail at 12:02; the null does not count
    assert served["amount_count"] == 1
    assert served["amount_max"] == 4.5
    assert served["amount_std"] == pytest.approx(1.5909902576697319)
    assert served["desk_mean"] == 2.25
    assert served["desk_life"] == 6.75
    assert answer.proto.results[-1].event_timestamps[0].ToMilliseconds() == NOON_MS + 12 * 60_000


def test_feast_writes_over_our_row_to_the_same_bytes(
    plan: FeaturePlan, feast_store: Any, client: Any
) -> None:
    import pandas as pd

    logic, state = orders(plan, "layout_by_shop")
    row = logic.row(state)
    key = logic.key_of(("mill",))
    client.delete(key)
    stamp = pd.Timestamp(row.event_time_ms, unit="ms", tz="UTC")
    frame = pd.DataFrame(
        [
            {
                "shop": "mill",
                "event_time": stamp,
                **dict(zip(logic.view.feature_names, row.values, strict=True)),
            }
        ]
    )
    feast_store.write_to_online_store("layout_by_shop", frame)
    theirs = client.hgetall(key)
    ours = logic.fields(state, row)
    assert {field: value for field, value in theirs.items() if field in ours} == {
        field: value for field, value in ours.items() if not field.startswith(b"_driftline:")
    }


def test_we_read_the_rows_that_feast_writes(
    shop_settings: Settings, plan: FeaturePlan, feast_store: Any
) -> None:
    import asyncio

    import pandas as pd

    stamp = pd.Timestamp(NOON_MS, unit="ms", tz="UTC")
    rows: list[dict[str, Any]] = [
        {"desk": 1, "width": 1.5, "depth": 0.25, "drawers": -3, "legs": 4, "colour": "röt", "oak": True},
        {"desk": -2, "width": None, "depth": 2.0, "drawers": 2**40, "legs": -1, "colour": "", "oak": False},
    ]
    frame = pd.DataFrame([{**row, "event_timestamp": stamp} for row in rows])
    feast_store.write_to_online_store("layout_facts", frame)

    async def read() -> Any:
        async with OnlineReader.connect(shop_settings, plan.service("everything")) as reader:
            columns_of_keys: dict[str, list[Any]] = {"shop": ["x"] * 5, "desk": [1, -2, 1, 99, None]}
            return await reader.read(columns_of_keys, np.full(5, NOON_MS))

    columns = asyncio.run(read()).columns
    np.testing.assert_array_equal(columns["width"], [1.5, math.nan, 1.5, math.nan, math.nan])
    np.testing.assert_array_equal(columns["depth"], [0.25, 2.0, 0.25, math.nan, math.nan])
    np.testing.assert_array_equal(columns["drawers"], [-3, 2.0**40, -3, math.nan, math.nan])
    np.testing.assert_array_equal(columns["legs"], [4, -1, 4, math.nan, math.nan])
    np.testing.assert_array_equal(columns["oak"], [1, 0, 1, math.nan, math.nan])
    assert columns["colour"].tolist() == ["röt", "", "röt", None, None]


TYPED_ROWS: list[dict[str, Any]] = [
    {
        "bool": False, "bytes": b"\0\xff", "double": -0.0, "float": 0.1, "int32": -(2**31),
        "int64": 2**63 - 1, "string": "", "unix_timestamp": 0,
        "bool_list": [True, False], "bytes_list": [b"", b"\n"], "double_list": [1e308, -0.5],
        "float_list": [0.25, -1.5], "int32_list": [-1, 300], "int64_list": [-(2**63), 0],
        "string_list": ["", "ü"], "unix_timestamp_list": [1, 2**31],
    },
    {
        "bool": True, "bytes": b"x", "double": 0.1, "float": -2.5, "int32": 7, "int64": -1,
        "string": "日本", "unix_timestamp": -86_400,
        "bool_list": [True], "bytes_list": [b"x"], "double_list": [0.0], "float_list": [0.5],
        "int32_list": [0], "int64_list": [2**53 + 1], "string_list": ["x"], "unix_timestamp_list": [0],
    },
]  # fmt: skip
TYPED_KEYS = [("mill", 2**40, -5), ("", -1, 0)]


def typed_protos(row: dict[str, Any]) -> dict[str, Any]:
    from feast.protos.feast.types.Value_pb2 import Value

    protos = {}
    for name, value in row.items():
        protos[name] = Value()
        if isinstance(value, list):
            getattr(protos[name], f"{name}_val").val.extend(value)
        else:
            protos[name] = Value(**{f"{name}_val": value})
    return protos


def read_exact(settings: Settings, plan: FeaturePlan, keys: list[tuple[str, int, int]]) -> dict[str, Any]:
    import asyncio

    async def read() -> Any:
        pipeline = AsyncPipeline.connect(settings)
        async with OnlineReader(plan.service("typed"), pipeline, detailed=True) as reader:
            columns = dict(zip(("shop", "desk", "area"), map(list, zip(*keys, strict=True)), strict=True))
            return await reader.read(columns, np.full(len(keys), NOON_MS))

    served = asyncio.run(read())
    assert set(served.statuses("layout_typed__int64", "layout_typed")) <= {1, 2}
    return {name.partition("__")[2]: column.tolist() for name, column in served.columns.items()}


def write_by_feast(feast_store: Any, keys: list[tuple[str, int, int]], rows: list[dict[str, Any]]) -> None:
    """Write rows through Feast's own online store, past its guesses at types."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    stamp = dt.datetime.fromtimestamp(NOON_MS / 1000, dt.UTC)
    data = []
    for (shop, desk, area), row in zip(keys, rows, strict=True):
        entity = EntityKey(
            join_keys=["shop", "desk", "area"],
            entity_values=[Value(string_val=shop), Value(int64_val=desk), Value(int32_val=area)],
        )
        data.append((entity, row, stamp, None))
    view = feast_store.get_feature_view("layout_typed")
    feast_store._get_provider().online_write_batch(feast_store.config, view, data, None)


def test_we_read_every_type_that_feast_writes(
    shop_settings: Settings, plan: FeaturePlan, feast_store: Any
) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    write_by_feast(feast_store, TYPED_KEYS, [typed_protos(row) for row in TYPED_ROWS])
    served = read_exact(shop_settings, plan, TYPED_KEYS)
    for name, values in served.items():
        kind = np.float32 if name.startswith("float") else np.asarray
        expected = [kind(row[name]) if name.startswith("float") else row[name] for row in TYPED_ROWS]
        assert all(np.array_equal(a, b) for a, b in zip(values, expected, strict=True)), name
    null = [("null", 1, 1)]
    write_by_feast(feast_store, null, [dict.fromkeys(TYPED_ROWS[0], Value())])
    assert read_exact(shop_settings, plan, null) == {name: [None] for name in TYPED_ROWS[0]}


def test_feast_reads_every_type_that_we_write(plan: FeaturePlan, feast_store: Any, client: Any) -> None:
    view = plan.view("layout_typed")
    assert [key.name for key in view.join_keys] == ["area", "desk", "shop"]
    keys = [("ours", 3, 4), ("oürs", 2**62, -4), ("null", 0, 0)]
    rows = [*TYPED_ROWS, dict.fromkeys(TYPED_ROWS[0])]
    for (shop, desk, area), row in zip(keys, rows, strict=True):
        fields = {
            feast_layout.feature_field(view.name, feature.name): feast_layout.encode_value(
                feature.type, row[feature.name]
            )
            for feature in view.features
        }
        fields[feast_layout.timestamp_field(view.name)] = feast_layout.encode_timestamp(NOON_MS)
        client.hset(
            feast_layout.entity_key_encoder(plan.project, view.join_keys)((area, desk, shop)), mapping=fields
        )
    answer = feast_store.get_online_features(
        features=[f"{view.name}:{name}" for name in view.feature_names],
        entity_rows=[dict(zip(("shop", "desk", "area"), key, strict=True)) for key in keys],
    ).proto
    results = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))
    for number, row in enumerate(TYPED_ROWS):
        for name, expected in typed_protos(row).items():
            assert results[name].values[number] == expected  # noqa: PD011  # protobuf, not pandas
    nulls = [results[name].values[2] for name in view.feature_names]  # noqa: PD011
    assert all(null.WhichOneof("val") is None for null in nulls)


def test_batch_views_are_materialised_from_their_files_and_served(
    valkey: str, tmp_path: Path, unique_name: str
) -> None:
    import asyncio

    import pandas as pd

    settings = Settings(redis_url=valkey, home=tmp_path)
    stamp = pd.Timestamp("2013-01-01", tz="UTC")
    (tmp_path / "batch").mkdir()
    first, second = f"{unique_name}-1", f"{unique_name}-2"
    aircraft = {"tailnum": [first, second], "year_built": [1999, None], "seats": [150, 8]}
    frame = pd.DataFrame({**aircraft, "event_timestamp": stamp}).astype({"year_built": "Int64"})
    frame.to_parquet(tmp_path / "batch" / "aircraft_facts.parquet")
    route = {"origin": ["JFK"], "dest": ["LAX"], "distance": [2475.0], "event_timestamp": [stamp]}
    pd.DataFrame(route).to_parquet(tmp_path / "batch" / "route_facts.parquet")
    repository.apply(settings)
    repository.materialize(settings, dt.datetime(2013, 1, 2, tzinfo=dt.UTC))
    service = repository.load(settings).service("arrival_delay")

    async def read() -> Any:
        async with OnlineReader.connect(settings, service) as reader:
            columns_of_keys: dict[str, list[Any]] = {
                "origin": ["JFK"] * 3,
                "dest": ["LAX", "LAX", "ORD"],
                "tailnum": [first, second, None],
            }
            return await reader.read({**columns_of_keys, "carrier": ["UA"] * 3}, np.full(3, NOON_MS))

    columns = asyncio.run(read()).columns
    np.testing.assert_array_equal(columns["distance"], [2475, 2475, math.nan])
    np.testing.assert_array_equal(columns["year_built"], [1999, math.nan, math.nan])
    np.testing.assert_array_equal(columns["seats"], [150, 8, math.nan])
    np.testing.assert_array_equal(columns["origin_departures_1h"], [math.nan] * 3)


def test_plan_says_what_the_repository_declares(plan: FeaturePlan) -> None:
    view = plan.view("layout_by_desk")
    assert view.kind is ViewKind.WINDOWED
    assert view.join_keys == (Column("desk", ValueType.INT64), Column("shop", ValueType.STRING))
    assert view.is_repartitioned
    assert view.source is not None
    assert (view.source.topic, view.source.message_key, view.hop_ms) == (
        "layout.orders",
        ("order_id",),
        60_000,
    )
    assert not plan.view("layout_latest").is_repartitioned
    assert plan.view("layout_latest").ttl_ms == 3_600_000
    service = plan.service("everything")
    assert service.feature_names[:6] == (
        "amount_sum",
        "amount_count",
        "amount_max",
        "amount_std",
        "desk_mean",
        "desk_life",
    )
    assert service.feature_names[6:] == (
        "heat", "state", "open", "people", "width", "depth", "drawers", "legs", "colour", "oak",
    )  # fmt: skip
    assert set(service.join_keys) == {"shop", "desk"}
    assert service.stream_views == ("layout_by_shop", "layout_by_desk", "layout_latest")


def test_a_service_with_lists_or_bytes_is_no_input_of_a_model(plan: FeaturePlan) -> None:
    plan.service("everything").check_inputs()
    with pytest.raises(PlanError, match="of view 'layout_typed' is of type"):
        plan.service("typed").check_inputs()


def test_plan_is_read_without_feast_and_compiled_anew_when_the_registry_changes(
    shop_settings: Settings, plan: FeaturePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "compile_plan", lambda _: pytest.fail("compiled"))
    assert repository.load(shop_settings) == plan
    registry = plan_cache.registry_path(shop_settings)
    before = registry.read_bytes()
    try:
        registry.write_bytes(before + b" ")
        monkeypatch.setattr(repository, "compile_plan", lambda _: plan)
        assert plan_cache.read(registry) is None
        assert repository.load(shop_settings) is plan
    finally:
        registry.write_bytes(before)


def test_the_flights_repository_compiles(valkey: str, tmp_path: Path) -> None:
    plan = repository.apply(Settings(redis_url=valkey, home=tmp_path))
    service = plan.service("arrival_delay")
    assert service.feature_names == (
        "origin_delay_mean_1h", "origin_delay_mean_3h", "origin_departures_1h", "carrier_delay_mean_3h",
        "aircraft_delay_last_16h", "dest_delay_mean_3h", "carrier_arrival_delay_mean_3h",
        "temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib",
        "distance", "year_built", "seats",
    )  # fmt: skip
    assert {view.name for view in plan.views if view.is_repartitioned} == {
        "origin_departures",
        "carrier_departures",
        "aircraft_departures",
        "dest_arrivals",
        "carrier_arrivals",
    }
    assert service.join_keys == ("origin", "carrier", "tailnum", "dest")


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ('"std", timedelta', '"mode", timedelta', "view 'wrong_by_shop': aggregation 'amount_std'"),
        ('tags={"message_key": "order_id"}', "tags={}", "source 'orders_of_wrong_by_shop': tags"),
        ("shop string not null, desk long", "shop string not null, desk string", "entity column 'desk'"),
        ('Aggregation("amount", "mean"', 'Aggregation("note", "mean"', "column 'note' is not in"),
        ('Field(name="heat", dtype=Float64)', 'Field(name="cold", dtype=Float64)', "feature 'cold'"),
        ('Field(name="oak", dtype=Bool)', 'Field(name="oak", dtype=Map)', "field 'oak': type Map"),
        ('"amount_max", dtype=Float64', '"amount_max", dtype=String', "feature 'amount_max'"),
        ("event_time timestamp not null", "event_time timestamp", "timestamp_field 'event_time'"),
        ("tiling_hop_size=timedelta(minutes=1)", "tiling_hop_size=timedelta(seconds=0.5)", "whole seconds"),
        ('topic="wrong.orders"', 'topic="driftline.dead-letters"', "is a topic that features writes"),
        ('topic="wrong.orders"', 'topic="all orders"', "not a valid topic name"),
        ('name="wrong_by_shop", entities', 'name="wrong by shop", entities', "not a valid topic name"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_by_name(before: str, after: str, named: str, tmp_path: Path) -> None:
    feature_repo = write_shop(tmp_path / "repository", "wrong")
    definitions = feature_repo / "definitions.py"
    text = definitions.read_text()
    assert before in text
    definitions.write_text(text.replace(before, after))
    with pytest.raises(PlanError) as caught:
        repository.apply(Settings(home=tmp_path / "home", feature_repo=feature_repo))
    assert named in str(caught.value)
