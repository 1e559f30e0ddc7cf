from pathlib import Path

import pytest

from services.model_registry import sealed_reference
from services.model_registry.mlflow_client import RegistryError
from services.rollout import promoted_reference
from services.runtime.settings import Settings
from streams.records import Reference
from tests.unit.drift import scenario

CHANGE = scenario.model_changed(version=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_new_champion_brings_its_reference(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_version(_settings: Settings, _model: str, version: int) -> Reference:
        return scenario.reference(version)

    monkeypatch.setattr(sealed_reference, "of_version", of_version)
    found = promoted_reference.with_reference(settings, CHANGE, 2)
    assert found.reference is not None
    assert found.reference.version == 2


def test_version_without_a_usable_reference_leaves_the_change(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_settings: Settings, _model: str, _version: int) -> Reference:
        raise RegistryError("it is not signed")

    monkeypatch.setattr(sealed_reference, "of_version", refused)
    assert promoted_reference.with_reference(settings, CHANGE, 2) is CHANGE
    monkeypatch.setattr(sealed_reference, "of_version", lambda *_: None)
    assert promoted_reference.with_reference(settings, CHANGE, 2) is CHANGE
