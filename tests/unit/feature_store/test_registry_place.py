"""The registry is where feature_store.yaml says, as for Feast."""

from pathlib import Path

import pytest

from services.feature_store import registry_place
from services.feature_store.plan import PlanError
from services.runtime.settings import Settings


def place_of(folder: Path, registry: str) -> Path:
    repository = folder / "repo"
    repository.mkdir()
    (repository / "feature_store.yaml").write_text(f"project: p\n{registry}")
    return registry_place.path(Settings(_env_file=None, home=folder / "home", feature_repo=repository))


@pytest.mark.parametrize(
    ("registry", "place"),
    [
        ("registry: data/registry.db", "repo/data/registry.db"),
        ("", "repo/data/registry.db"),
        ("registry: /tmp/some/registry.pb", "/tmp/some/registry.pb"),
        ("registry: {path: other.db, cache_ttl_seconds: 5}", "repo/other.db"),
        ("registry:\n  registry_type: file\n  path: ${DRIFTLINE_HOME}/registry.db", "home/registry.db"),
    ],
)
def test_a_file_is_found(tmp_path: Path, registry: str, place: str) -> None:
    assert place_of(tmp_path, registry) == tmp_path / place


@pytest.mark.parametrize(
    "registry",
    ["registry: {registry_type: sql, path: 'postgresql://h/feast'}", "registry: s3://bucket/registry.db"],
)
def test_a_registry_that_is_no_file_is_refused_with_a_remedy(tmp_path: Path, registry: str) -> None:
    with pytest.raises(PlanError, match=r"feature_store.yaml: registry: .* declare a path, as in registry:"):
        place_of(tmp_path, registry)


def test_a_check_uses_another_registry(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path)
    with registry_place.instead(tmp_path / "other.db"):
        assert registry_place.path(settings) == tmp_path / "other.db"
    assert registry_place.path(settings) != tmp_path / "other.db"


def test_without_a_repository_it_is_in_the_home_folder(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path, feature_repo=tmp_path / "none")
    assert registry_place.path(settings) == tmp_path / "registry.db"
