"""Learning notices that features were applied with another definition."""

import types
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from services.feature_store import plan_watch, view_definition
from services.feature_store.plan import PlanError
from services.learning.definition_watch import DefinitionWatch
from services.runtime.settings import Settings
from tests.unit.learning import traffic


def model(definitions: dict[str, str], names: tuple[str, ...] = ("x",)) -> Any:
    learner = types.SimpleNamespace(definitions=definitions, feature_names=names)
    return types.SimpleNamespace(name="m", declaration=traffic.declaration(), learner=learner)


@pytest.fixture
def applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DefinitionWatch:
    """Return what has noticed nothing yet; x is applied as a sum over two hours."""
    service: Any = types.SimpleNamespace(feature_names=("x",))
    service.for_requests = lambda *_: service
    plan: Any = types.SimpleNamespace(service=lambda _: service)
    monkeypatch.setattr(plan_watch, "load_apart", lambda _: plan)
    monkeypatch.setattr(view_definition, "of_service", lambda _: {"x": "two hours"})
    found = DefinitionWatch(Settings(home=tmp_path))
    (tmp_path / "registry.db").write_bytes(b"1")
    return found


@pytest.mark.parametrize(
    ("opened", "changed"),
    [
        (model({"x": "one hour"}), ["m"]),
        (model({"x": "two hours"}), []),
        (model({"x": "two hours"}, ()), ["m"]),
    ],
)
def test_a_model_with_another_definition_is_told_once(
    applied: DefinitionWatch, opened: Any, changed: list[str]
) -> None:
    assert [applied.changed([opened]) for _ in range(2)] == [changed, []]


@pytest.mark.parametrize("fails", ["load", "service"])
def test_a_repository_that_cannot_be_used_changes_nothing(
    applied: DefinitionWatch, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def failing(*_: object) -> Any:
        raise PlanError("there is no such service")

    plan = types.SimpleNamespace(service=failing)
    monkeypatch.setattr(plan_watch, "load_apart", failing if fails == "load" else lambda _: plan)
    with structlog.testing.capture_logs() as told:
        assert applied.changed([model({"x": "one hour"})]) == []
    assert [each["event"] for each in told] == ["learning.features_not_changed"]
