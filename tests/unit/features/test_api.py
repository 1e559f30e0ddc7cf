"""The online API without a store: each invalid request is refused with the name of its field."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from services.features import api
from services.features.api import OnlineFeatures
from services.runtime.settings import Settings
from services.runtime.web import server
from tests.online_shop import PLAN, application, ask

UNREACHABLE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(application(UNREACHABLE), raise_server_exceptions=False) as client:
        yield client


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
def test_invalid_field_is_refused_by_its_name(
    client: TestClient, body: dict[str, Any], status: int, text: str
) -> None:
    response = ask(client, **body)
    assert response.status_code == status
    assert text in response.json()["error"]


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
def test_body_that_is_not_a_request_is_a_client_error(client: TestClient, body: bytes, status: int) -> None:
    response = client.post("/get-online-features", content=body)
    assert (response.status_code, list(response.json())) == (status, ["error", "request_id"])


def test_invalid_token_digest_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Settings(api_token_digests="my-password")


def test_unreachable_store_is_a_503_without_its_address() -> None:
    with TestClient(application(UNREACHABLE)) as http:
        response = ask(http, feature_service="shop", entities={"shop": ["mill"]})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert "127.0.0.1" not in response.text


def test_defect_is_a_500_without_internals() -> None:
    def broken() -> int:
        raise ZeroDivisionError("a secret")

    features = OnlineFeatures(Settings(redis_url=UNREACHABLE), PLAN, now_ms=broken)
    application = server.application(lambda: None, features.routes(), [])
    with TestClient(application, raise_server_exceptions=False) as http:
        response = ask(http, feature_service="shop", entities={"shop": ["mill"]})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "logged as" in response.json()["error"]
