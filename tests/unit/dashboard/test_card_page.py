"""The stored card of a version is served, and its absence says what to do."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.dashboard import card_page
from services.model_registry import model_card_page, model_card_store
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.model_card import CardSection, ModelCard
from services.runtime.settings import Settings

PATH = "/models/m/versions/3/card"


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=[card_page.route(Settings())]))


def store(monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    def stored(_: Settings, model: str, version: int) -> Any:
        assert (model, version) == ("m", 3)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(model_card_store, "stored", stored)


def test_card_is_a_page_with_its_own_policy_or_markdown(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(monkeypatch, ModelCard("m", 3, 0, [CardSection("Intended use", "To warn.")]))
    answer = client.get(PATH)
    assert answer.headers["content-security-policy"] == model_card_page.CONTENT_SECURITY_POLICY
    assert "<h1>m version 3</h1>" in answer.text
    assert client.get(PATH, params={"format": "markdown"}).text.startswith("# m version 3\n")


@pytest.mark.parametrize(
    ("found", "status", "text"),
    [
        (None, 404, "run 'driftline models card m 3'"),
        (RegistryError("the registry has no m version 3"), 404, "the registry has no m version 3"),
        (ConnectionError("refused"), 503, "MLflow cannot be read: refused"),
    ],
)
def test_card_that_cannot_be_served_says_why(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, found: Any, status: int, text: str
) -> None:
    store(monkeypatch, found)
    answer = client.get(PATH)
    assert answer.status_code == status
    assert text in answer.json()["error"]


def test_version_is_a_number(client: TestClient) -> None:
    assert client.get("/models/m/versions/x/card").status_code == 404
