"""The digest of a version is its tag in the registry, and is asked for only if a decision names one."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.model_registry import mlflow_client, version_digest
from services.model_registry.ledger_chain import ORIGIN, EntryDraft, decoded, sealed
from services.runtime.settings import Settings
from streams.records import LedgerEntry


def approval(evidence: dict[str, Any]) -> LedgerEntry:
    draft = EntryDraft(
        kind="approval", model="m", version=3, evidence=evidence, actor="ada", at_ms=0, request_id="m/3"
    )
    return decoded(sealed(draft, 1, ORIGIN))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the versions that the registry was asked for; it has version 3 only."""
    found: list[str] = []

    def get(model: str, version: str) -> Any:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

        found.append(version)
        if version != "3":
            raise MlflowException("no such version", RESOURCE_DOES_NOT_EXIST)
        return SimpleNamespace(tags={"driftline.digest": "abc"})

    client = SimpleNamespace(get_model_version=get)
    monkeypatch.setattr(mlflow_client, "connect", lambda _: client)
    return found


def test_digest_is_that_of_the_registry(asked: list[str]) -> None:
    settings = Settings(_env_file=None)
    assert version_digest.of_version(settings, "m", 3) == "abc"
    assert version_digest.of_version(settings, "m", 4) == ""
    assert asked == ["3", "4"]


def test_registry_is_asked_only_for_a_version_with_a_decision_that_names_a_digest(asked: list[str]) -> None:
    settings = Settings(_env_file=None)
    assert version_digest.of_decided(settings, [approval({"reason": "good"})], "m", 3) == ""
    assert asked == []
    assert version_digest.of_decided(settings, [approval({"digest": "abc"})], "m", 3) == "abc"
