"""A stock Feast client with a remote online store reads from our API what it reads from Redis itself."""

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from services.feature_store import repository
from services.feature_store.plan import FeaturePlan
from services.features.api import OnlineFeatures
from services.operations.local_servers import ports
from services.runtime.settings import Settings
from services.runtime.web import server
from tests.repositories import write_shop

TOKEN = "of-the-client"
STAMP = dt.datetime(2013, 7, 1, 12, tzinfo=dt.UTC)
FEATURES = ["width", "depth", "drawers", "legs", "colour", "oak"]


@pytest.fixture(scope="module")
def shop_settings(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("feast")
    return Settings(
        redis_url=valkey,
        home=folder / "home",
        feature_repo=write_shop(folder / "repository", "client"),
        features_port=ports.free_port(),
        api_token_digests=hashlib.sha256(TOKEN.encode()).hexdigest(),
    )


@pytest.fixture(scope="module")
def plan(shop_settings: Settings) -> FeaturePlan:
    return repository.apply(shop_settings)


@pytest.fixture(scope="module")
def direct(shop_settings: Settings, plan: FeaturePlan) -> Iterator[Any]:
    """Feast on Redis, with the facts of two desks."""
    import pandas as pd

    del plan
    rows: list[dict[str, Any]] = [
        {"desk": 1, "width": 1.5, "depth": 0.25, "drawers": -3, "legs": 4, "colour": "röt", "oak": True},
        {"desk": -2, "width": None, "depth": 2.0, "drawers": 2**60, "legs": -1, "colour": "", "oak": False},
    ]
    frame = pd.DataFrame([{**row, "event_timestamp": STAMP} for row in rows])
    with repository.feast_store(shop_settings) as store:
        store.write_to_online_store("client_facts", frame)
        yield store


@pytest.fixture(scope="module")
def url(shop_settings: Settings, plan: FeaturePlan) -> Iterator[str]:
    """The API, with a token."""
    app = server.application(
        lambda: None, OnlineFeatures(shop_settings, plan).routes(), shop_settings.feature_tokens
    )
    with server.serve_in_thread(app, shop_settings.host, shop_settings.features_port):
        yield f"http://{shop_settings.host}:{shop_settings.features_port}"


def remote(shop_settings: Settings, url: str, token: str) -> Any:
    """Make the client, as an application would configure it."""
    from feast import FeatureStore, RepoConfig

    return FeatureStore(
        config=RepoConfig(
            project="client",
            provider="local",
            registry=str(shop_settings.home / "registry.db"),
            online_store={"type": "remote", "path": url},
            auth={"type": "oidc", "token": token},
            entity_key_serialization_version=3,
        )
    )


@pytest.fixture
def client(shop_settings: Settings, url: str, direct: Any) -> Iterator[Any]:
    del direct
    yield remote(shop_settings, url, TOKEN)
    forget_session()


def forget_session() -> None:
    """Feast keeps one HTTP session a process, whatever the token."""
    from feast.permissions.client.http_auth_requests_wrapper import HttpSessionManager

    HttpSessionManager.close_session()


def ask(store: Any, desks: Sequence[int], **options: Any) -> dict[str, Any]:
    names = [f"client_facts:{name}" for name in FEATURES]
    rows = [{"desk": desk} for desk in desks]
    answer: dict[str, Any] = store.get_online_features(features=names, entity_rows=rows, **options).to_dict()
    return answer


def test_the_client_gets_what_feast_reads_from_redis(client: Any, direct: Any) -> None:
    served = ask(client, [1, -2, 99, 1])
    assert served == ask(direct, [1, -2, 99, 1])
    assert served["drawers"] == [-3, 2**60, None, -3]
    full = ask(client, [1], full_feature_names=True)
    assert full == ask(direct, [1], full_feature_names=True)
    assert full["client_facts__colour"] == ["röt"]


def test_the_client_is_told_why_a_value_is_missing(client: Any) -> None:
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    names = ["client_facts:width", "client_facts:oak"]
    answer = client.get_online_features(features=names, entity_rows=[{"desk": 1}, {"desk": -2}, {"desk": 99}])
    statuses = {
        name: [FieldStatus.Name(status) for status in result.statuses]
        for name, result in zip(answer.proto.metadata.feature_names.val, answer.proto.results, strict=True)
    }
    assert statuses["width"] == ["PRESENT", "NULL_VALUE", "NOT_FOUND"]
    assert statuses["oak"] == ["PRESENT", "PRESENT", "NOT_FOUND"]


def test_the_client_reads_a_feature_service_with_stream_views(client: Any) -> None:
    service = client.get_feature_service("everything")
    served = client.get_online_features(features=service, entity_rows=[{"shop": "mill", "desk": 1}]).to_dict()
    assert served["width"] == [1.5]
    assert served["amount_count"] == [None]  # nobody ordered there
    assert {"shop", "desk", "heat", "state"} <= served.keys()


def test_the_older_way_of_reading_one_view_works_too(client: Any) -> None:
    """Feast's provider reads view by view, typed by the registry."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["desk"], entity_values=[Value(int64_val=1)])
    view = client.get_feature_view("client_facts")
    ((stamp, row),) = client._get_provider().online_read(client.config, view, [key], FEATURES)
    assert stamp == STAMP
    assert (row["legs"], row["depth"]) == (Value(int32_val=4), Value(float_val=0.25))


def test_a_client_without_the_token_is_turned_away(shop_settings: Settings, url: str, direct: Any) -> None:
    del direct
    store = remote(shop_settings, url, "guessed")
    try:
        with pytest.raises(Exception, match="401"):
            ask(store, [1])
    finally:
        forget_session()


def test_an_unknown_feature_is_named_to_the_client(client: Any) -> None:
    with pytest.raises(Exception, match="no_such"):
        client.get_online_features(features=["client_facts:no_such"], entity_rows=[{"desk": 1}])
