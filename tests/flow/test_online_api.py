"""The online API on a real Valkey: values with types, ages and statuses, and tokens."""

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
from services.features.view_state import Event, ViewLogic
from services.runtime import watermarks
from tests.online_shop import ALL, FACTS, HOUR_MS, NOON, NOON_MS, ORDERS, PROJECT, application, ask


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
        order_key = watermarks.order_key(watermarks.of_view(PROJECT, "orders"))
        client.zadd(order_key, {"0": NOON_MS, "1": NOON_MS + 5})
    return valkey


@pytest.fixture(scope="module")
def client(filled: str) -> Iterator[TestClient]:
    with TestClient(application(filled), raise_server_exceptions=False) as client:
        yield client


def test_values_have_type_status_age_and_event_time(client: TestClient) -> None:
    response = ask(client, features=ALL, entities={"shop": ["mill", "dock"], "desk": [7, 7]}, **NOON).json()
    assert response["metadata"] == {
        "feature_names": ["shop", "desk", "count", "count", "raw", "sizes", "oak"],
        "watermarks_ms": {"orders": NOON_MS},
    }
    shop, _, orders, facts, raw, sizes, oak = response["results"]
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


def test_service_is_served_in_its_order_with_full_names_on_request(client: TestClient) -> None:
    asked = {"feature_service": "shop", "entities": {"shop": ["mill"]}, "full_feature_names": True}
    response = ask(client, **asked, **NOON, include_feature_view_version_metadata=True).json()
    assert response["metadata"]["feature_names"] == ["shop", "orders__sum", "orders__count"]
    assert response["metadata"]["feature_view_metadata"] == [{"name": "orders", "version": 0}]
    assert response["results"][1]["values"] == ["Infinity"]  # JSON has no number 2e308
    assert response["results"][1]["statuses"] == ["PRESENT"]


def test_age_is_relative_to_the_requested_time_by_default_now(client: TestClient) -> None:
    def statuses(**when: str) -> list[str]:
        response = ask(client, feature_service="shop", entities={"shop": ["mill"]}, **when).json()
        return [result["statuses"][0] for result in response["results"][1:]]

    assert statuses(event_time="2013-07-01T11:59:58Z") == ["NOT_FOUND", "NOT_FOUND"]
    assert statuses(event_time="2013-07-01T13:30:00Z") == ["NULL_VALUE", "PRESENT"]
    assert statuses(event_time="2013-07-01T14:59:59Z") == ["NULL_VALUE", "PRESENT"]
    assert statuses(event_time="2013-07-01T15:00:00Z") == ["OUTSIDE_MAX_AGE"] * 2
    assert statuses() == ["OUTSIDE_MAX_AGE"] * 2


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


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(likely, values))
def test_no_body_causes_a_server_error(client: TestClient, body: Any) -> None:
    response = client.post("/get-online-features", content=json.dumps(body).encode())
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code == 200:
        lengths = {len(column) for result in response.json()["results"] for column in result.values()}
        assert len(lengths) <= 1


def test_token_is_required_if_one_is_configured(filled: str) -> None:
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
