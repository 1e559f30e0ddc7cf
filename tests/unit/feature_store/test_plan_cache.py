"""The stored plan is only read for the registry and the version that it was compiled for."""

from pathlib import Path

import pytest

from services.feature_store import plan_cache
from services.feature_store.plan import FeaturePlan
from services.runtime.settings import Settings
from tests.unit.feature_store.test_plan import PLAN


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A registry for which a plan is stored."""
    settings = Settings(home=tmp_path)
    registry = plan_cache.registry_path(settings)
    registry.write_bytes(b"what feast apply has written")
    plan_cache.store(settings, PLAN)
    return registry


def test_a_plan_is_read_back(registry: Path) -> None:
    assert plan_cache.read(registry) == PLAN


def test_a_plan_of_another_registry_is_not_read(registry: Path) -> None:
    registry.write_bytes(b"what another apply has written")
    assert plan_cache.read(registry) is None


def test_a_plan_of_another_version_is_not_read(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_cache, "VERSION", plan_cache.VERSION + 1)
    assert plan_cache.read(registry) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"not json"])
def test_a_file_of_something_else_is_not_read(registry: Path, content: bytes) -> None:
    registry.with_name("feature_plan.json").write_bytes(content)
    assert plan_cache.read(registry) is None


def test_without_a_stored_plan_there_is_none(tmp_path: Path) -> None:
    registry = tmp_path / "registry.db"
    registry.write_bytes(b"")
    assert plan_cache.read(registry) is None


def test_storing_leaves_one_file_beside_the_registry(registry: Path) -> None:
    """It is written elsewhere and moved: a reader never sees half of it."""
    plan_cache.store(Settings(home=registry.parent), FeaturePlan("other", (), {}))
    names = sorted(path.name for path in registry.parent.iterdir())
    assert names == ["feature_plan.json", "registry.db"]
