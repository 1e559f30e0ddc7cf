"""The online API on a real Valkey: what is asked wrongly is named, and nothing shows internals."""

import hashlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from services.feature_store import feast_layout
from services.feature_store.plan import (
    Column,
    FeatureAggregation,
    FeaturePlan,
    FeatureReference,
    ValueType,
    View,
    ViewKind,
)
from services.features import api
from services.features.api import OnlineFeatures
from services.features.view_state import Event, ViewLogic
from services.runtime import watermarks
from services.runtime.settings import Settings
from services.runtime.web import server

HOUR_MS = 3_600_000
NOON_MS = 1_372_680_000_000
PROJECT = "api"
SHOP, DESK = Column("shop", ValueType.STRING), Column("desk", ValueType.INT32)
ORDERS = View(
    "orders",
    ViewKind.WINDOWED,
    (SHOP,),
    (Column("count", ValueType.INT64), Column("sum", ValueType.DOUBLE)),
    3 * HOUR_MS,
    None,
    (
        FeatureAggregation("count", "amount", "count", HOUR_MS),
        FeatureAggregation("sum", "amount", "sum", HOUR_MS),
    ),
    60_000,
)
FACTS = View(
    "facts",
    ViewKind.BATCH,
    (DESK, SHOP),
    (
        Column("count", ValueType.INT64),
        Column("raw", ValueType.BYTES),
        Column("sizes", ValueType.DOUBLE_LIST),
        Column("oak", ValueType.BOOL),
    ),
    0,
)
PLAN = FeaturePlan(
    PROJECT,
    (FACTS, ORDERS),
    {"shop": (FeatureReference("orders", "sum"), FeatureReference("orders", "count"))},
)
NOON = {"event_time": "2013-07-01T12:00:00Z"}
ALL = ["orders:count", "facts:count", "facts:raw", "facts:sizes", "facts:oak"]


@pytest.fixture(scope="module")
def filled(valkey: str) -> str:
    """A store with one shop's orders and one desk's facts."""
    logic = ViewLogic(PROJECT, ORDERS)
    state = logic.load(None)
    logic.apply(state, Event(SimpleNamespace(shop="mill", amount=1e308), NOON_MS - 1500, 0, 0))
    logic.apply(state, Event(SimpleNamespace(shop="mill", amount=1e308), NOON_MS - 1000, 0, 1))
    values: dict[str, Any] = {
        "count": 2**53 + 1,
        "raw": b"\xff\0",
        "sizes": [1.5, float("inf"), float("nan")],
        "oak": True,
    }
    row = {
        feast_layout.feature_field("facts", f.name): feast_layout.encode_value(f.type, values[f.name])
        for f in FACTS.features
    }
    row[feast_layout.timestamp_field("facts")] = feast_layout.encode_timestamp(NOON_MS - HOUR_MS)
    with redis.Redis.from_url(valkey) as client:
        client.hset(logic.key_of(("mill",)), mapping=logic.fields(state, logic.row(state)))
        key = feast_layout.entity_key_encoder(PROJECT, FACTS.join_keys)((7, "mill"))
        client.hset(key, mapping=row)
        client.hset(watermarks.key("orders"), mapping={"0": NOON_MS, "1": NOON_MS + 5})
    return valkey


def application(url: str, **changes: Any) -> Any:
    options = Settings(redis_url=url, **changes)
    return server.application(lambda: None, OnlineFeatures(options, PLAN).routes(), options.feature_tokens)


@pytest.fixture(scope="module")
def client(filled: str) -> Iterator[TestClient]:
    with TestClient(application(filled), raise_server_exceptions=False) as client:
        yield client


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/get-online-features", json=body)


def test_values_come_typed_with_status_age_and_event_time(client: TestClient) -> None:
    answer = ask(client, features=ALL, entities={"shop": ["mill", "dock"], "desk": [7, 7]}, **NOON).json()
    assert answer["metadata"] == {
        "feature_names": ["shop", "desk", "count", "count", "raw", "sizes", "oak"],
        "watermarks_ms": {"orders": NOON_MS},
    }
    shop, _, orders, facts, raw, sizes, oak = answer["results"]
    assert shop["values"] == ["mill", "dock"]
    assert orders == {
        "values": [2, None],
        "statuses": ["PRESENT", "NOT_FOUND"],
        "event_timestamps": ["2013-07-01T11:59:59Z", "1970-01-01T00:00:00Z"],
        "ages_ms": [1000, None],
    }
    assert (facts["values"], facts["ages_ms"]) == ([2**53 + 1, None], [HOUR_MS, None])
    assert raw["values"] == ["/wA=", None]
    assert sizes["values"] == [[1.5, "Infinity", "NaN"], None]
    assert oak["values"] == [True, None]


def test_a_service_is_served_in_its_own_order_under_full_names_where_asked(client: TestClient) -> None:
    asked = {"feature_service": "shop", "entities": {"shop": ["mill"]}, "full_feature_names": True}
    answer = ask(client, **asked, **NOON, include_feature_view_version_metadata=True).json()
    assert answer["metadata"]["feature_names"] == ["shop", "orders__sum", "orders__count"]
    assert answer["metadata"]["feature_view_metadata"] == [{"name": "orders", "version": 0}]
    assert answer["results"][1]["values"] == ["Infinity"]  # 2e308: no number of JSON
    assert answer["results"][1]["statuses"] == ["PRESENT"]


def test_values_grow_old_with_the_time_that_is_asked_for_which_is_now_by_default(client: TestClient) -> None:
    def statuses(**when: str) -> list[str]:
        answer = ask(client, feature_service="shop", entities={"shop": ["mill"]}, **when).json()
        return [result["statuses"][0] for result in answer["results"][1:]]

    assert statuses(event_time="2013-07-01T11:59:58Z") == ["NOT_FOUND", "NOT_FOUND"]
    assert statuses(event_time="2013-07-01T13:30:00Z") == ["NULL_VALUE", "PRESENT"]
    assert statuses(event_time="2013-07-01T14:59:59Z") == ["NULL_VALUE", "PRESENT"]
    assert statuses(event_time="2013-07-01T15:00:00Z") == ["OUTSIDE_MAX_AGE"] * 2
    assert statuses() == ["OUTSIDE_MAX_AGE"] * 2


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "required field `entities`"),
        ({"entities": {"shop": ["mill"]}}, 400, "give either feature_service or features"),
        ({"entities": {}, "features": ["orders:sum"], "feature_service": "shop"}, 400, "give either"),
        ({"entities": {}, "features": ["sum"]}, 400, "features: 'sum' must be written as view:feature"),
        ({"entities": {}, "features": ["orders:no"]}, 404, "'orders' has no feature 'no'"),
        ({"entities": {}, "feature_service": "no"}, 404, "no feature service 'no'"),
        ({"entities": {}, "feature_service": "shop"}, 400, "entities: missing shop"),
        ({"entities": {"shop": [1.5]}, "feature_service": "shop"}, 400, "at `$.entities[...][0]`"),
        ({"entities": {"shop": [5]}, "feature_service": "shop"}, 400, "entities: shop[0] is 5, expected"),
        ({"entities": {"shop": []}, "feature_service": "shop", "at": 1}, 400, "unknown field `at`"),
        ({"entities": {"shop": []}, "feature_service": "shop", "event_time": "x"}, 400, "$.event_time"),
        (
            {"entities": {"shop": ["a", "b"], "desk": [1]}, "features": ["facts:oak"]},
            400,
            "columns differ in length",
        ),
        (
            {"entities": {"shop": ["a", "b"], "desk": [1, 2**31]}, "features": ["facts:oak"]},
            400,
            "entities: desk[1] is 2147483648, expected int32",
        ),
        (
            {"entities": {"shop": ["a"] * (api.ROWS_MAX + 1)}, "feature_service": "shop"},
            413,
            f"{api.ROWS_MAX + 1} rows, at most {api.ROWS_MAX}",
        ),
    ],
)
def test_a_wrong_body_is_refused_by_the_name_of_its_field(
    client: TestClient, body: dict[str, Any], status: int, text: str
) -> None:
    answer = ask(client, **body)
    assert answer.status_code == status
    assert text in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"entities": ' + b'{"a":' * 100_000, 400),
        (b'{"entities": {"shop": ["\\ud800"]}, "feature_service": "shop"}', 400),
        (b" " * (api.BODY_BYTES_MAX + 1), 413),
    ],
)
def test_a_body_that_is_no_request_is_a_client_error(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/get-online-features", content=body)
    assert (answer.status_code, list(answer.json())) == (status, ["error", "request_id"])


names = st.sampled_from(["shop", "desk", "orders:sum", "facts:raw", "orders:", ":", "facts:count", "é"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), names, st.just(2**31)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
likely = st.fixed_dictionaries(
    {
        "entities": st.one_of(
            st.fixed_dictionaries(
                {"shop": st.lists(scalars, max_size=2), "desk": st.lists(scalars, max_size=2)}
            ),
            st.fixed_dictionaries(
                {"shop": st.lists(st.text(), max_size=2), "desk": st.lists(st.integers(), max_size=2)}
            ),
            values,
        )
    },
    optional={
        "features": st.lists(names, max_size=4) | values,
        "feature_service": st.just("shop") | values,
        "full_feature_names": st.booleans() | values,
        "event_time": st.datetimes().map(lambda moment: moment.isoformat() + "Z") | values,
    },
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(likely, values))
def test_no_body_makes_an_error_of_ours(client: TestClient, body: Any) -> None:
    answer = client.post("/get-online-features", content=json.dumps(body).encode())
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code == 200:
        lengths = {len(column) for result in answer.json()["results"] for column in result.values()}
        assert len(lengths) <= 1


def test_a_token_is_asked_for_where_one_is_configured(filled: str) -> None:
    digests = ", ".join(hashlib.sha256(token.encode()).hexdigest() for token in ("first", "second"))
    body = {"feature_service": "shop", "entities": {"shop": ["mill"]}}
    with TestClient(application(filled, api_token_digests=digests)) as http:

        def status(authorization: str | None, path: str = "/get-online-features") -> int:
            headers = {} if authorization is None else {"Authorization": authorization}
            return int(http.post(path, json=body, headers=headers).status_code)

        assert [status(f"Bearer {token}") for token in ("first", "second")] == [200, 200]
        assert status("bearer first") == 200
        assert [status(sent) for sent in (None, "", "Bearer", "Bearer third", "Basic first", "first")] == [
            401
        ] * 6
        assert status("Bearer first", "/nowhere") == 404
        assert status(None, "/nowhere") == 401
        refused = http.post("/get-online-features", json=body)
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert http.get("/health/live").status_code == http.get("/metrics").status_code == 200


def test_a_digest_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Settings(api_token_digests="my-password")


def test_a_store_that_is_away_is_a_503() -> None:
    with TestClient(application("redis://127.0.0.1:1/0")) as http:
        answer = ask(http, feature_service="shop", entities={"shop": ["mill"]})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "127.0.0.1" not in answer.text


def test_a_defect_shows_no_internals(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> float:
        raise ZeroDivisionError("a secret")

    with TestClient(application(filled), raise_server_exceptions=False) as http:
        monkeypatch.setattr("services.features.api.time.time_ns", broken)
        answer = ask(http, feature_service="shop", entities={"shop": ["mill"]})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "logged as" in answer.json()["error"]
