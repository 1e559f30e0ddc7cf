"""What of the repository needs no Feast."""

import os
from pathlib import Path

import pytest

from services.feature_store import plan_cache, repository
from services.feature_store.plan import FeaturePlan, PlanError
from services.runtime.settings import Settings
from tests.unit.feature_store.test_plan import PLAN

EMPTY = FeaturePlan("empty", (), {})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://store", "store:6379,db=0"),
        ("redis://127.0.0.1:7000/3", "127.0.0.1:7000,db=3"),
        ("redis://:s%23cret@store:1/0", "store:1,db=0,password=s#cret"),
        ("rediss://ann:pw@store:1/0", "store:1,db=0,username=ann,password=pw,ssl=true"),
    ],
)
def test_a_redis_url_is_written_in_feasts_form(url: str, address: str) -> None:
    assert repository.online_store_address(url) == address


def test_variables_of_the_repository_are_set_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_HOME", "before")
    monkeypatch.delenv("DRIFTLINE_ONLINE_STORE", raising=False)
    with repository.environment(Settings(home=tmp_path, redis_url="redis://store:1/0")):
        assert os.environ["DRIFTLINE_HOME"] == str(tmp_path)
        assert os.environ["DRIFTLINE_ONLINE_STORE"] == "store:1,db=0"
    assert os.environ["DRIFTLINE_HOME"] == "before"
    assert "DRIFTLINE_ONLINE_STORE" not in os.environ


def test_without_a_registry_the_repository_must_be_applied_first(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"there is no Feast registry; apply the repository"):
        repository.load(Settings(home=tmp_path))


def test_a_stored_plan_is_loaded_without_compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path)
    registry = plan_cache.registry_path(settings)
    registry.write_bytes(b"registry")
    plan_cache.store(settings, PLAN)
    monkeypatch.setattr(repository, "compile_plan", lambda _: pytest.fail("compiled"))
    assert repository.load(settings) == PLAN
    registry.write_bytes(b"another registry")
    monkeypatch.setattr(repository, "compile_plan", lambda _: EMPTY)
    assert repository.load(settings) is EMPTY


def test_changed_files_are_compiled_apart_from_what_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text("project: p\nonline_store: {type: redis}\n")
    (folder / "definitions.py").write_text("")
    settings = Settings(home=tmp_path / "home", feature_repo=folder)
    homes: list[Path] = []

    def apply(given: Settings) -> FeaturePlan:
        homes.append(given.home)
        return EMPTY

    monkeypatch.setattr(repository, "apply", apply)
    assert repository.checked(settings) is EMPTY
    assert homes
    assert settings.home not in homes
    registry = plan_cache.registry_path(settings)
    registry.parent.mkdir()
    registry.write_bytes(b"registry")
    os.utime(registry, (2**32, 2**32))
    monkeypatch.setattr(repository, "load", lambda _: PLAN)
    assert repository.checked(settings) is PLAN
