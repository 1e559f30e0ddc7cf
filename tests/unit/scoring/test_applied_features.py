"""What scoring knows of the Feast repository that was applied last."""

import asyncio
from pathlib import Path

import pytest

from services.feature_store import plan_cache, plan_watch
from services.feature_store.plan import FeaturePlan, ServicePlan
from services.runtime.settings import Settings
from services.scoring.applied_features import AppliedFeatures


def service(project: str) -> ServicePlan:
    return ServicePlan("s", project, (), ())


def test_another_definition_of_a_service_is_noticed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    applied = AppliedFeatures(settings)
    assert applied.defines(service("one")), "nothing was applied since the start"
    for project in ("one", "two"):
        plan_cache.registry_path(settings).write_text(project)
        plan_cache.store(settings, FeaturePlan(project, (), {"s": ()}))
        asyncio.run(applied.refresh())
        assert [applied.defines(service(each)) for each in ("one", "two")] == [
            project == "one",
            project == "two",
        ]


def test_a_service_that_was_removed_is_not_defined(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    applied = AppliedFeatures(settings)
    plan_cache.registry_path(settings).write_text("other")
    plan_cache.store(settings, FeaturePlan("one", (), {"other": ()}))
    asyncio.run(applied.refresh())
    assert (applied.defines(service("one")), applied.fault) == (False, None)


def test_an_error_of_feast_is_shown_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Settings) -> FeaturePlan:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    settings = Settings(home=tmp_path)
    applied = AppliedFeatures(settings)
    plan_cache.registry_path(settings).write_text("garbage")
    monkeypatch.setattr(plan_watch, "load_apart", fails)
    asyncio.run(applied.refresh())
    assert "invalid start byte" in str(applied.fault)
    assert applied.defines(service("one"))
