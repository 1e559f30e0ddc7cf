"""The deployed models follow the folder of declarations; an error affects only its own model."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # no stubs

from services.feature_store import plan_cache, plan_watch, repository
from services.feature_store.plan import FeaturePlan, PlanError
from services.runtime.settings import Settings
from services.scoring.deployments import Deployments
from tests.unit.scoring.fakes import SECONDS_MAX, declaration, sample

SERVICE = declaration().features.service


class FakeDeployment:
    """Keeps what happens to it; starts unless its threshold is 0.13."""

    def __init__(self, settings, events, declared, text):
        if declared.threshold == 0.17:
            raise ValueError("the feature service does not exist")
        self.declaration, self.text = declared, text
        self.group = SimpleNamespace(failure=None, assigned=True, recreated=())
        self.is_loading = False
        self.service = repository.load(settings).service(declared.features.service)
        self.not_ready = None
        self.fault = None
        self.predictor = f"predictor of {declared.name}"
        self._events = events

    async def start(self):
        if self.declaration.threshold == 0.13:
            raise OSError("no broker")
        self._events.append(f"start {self.declaration.name} {self.declaration.threshold}")

    async def stop(self):
        self._events.append(f"stop {self.declaration.name} {self.declaration.threshold}")


class Folder:
    """A folder of declarations and the deployments that follow it."""

    def __init__(self, path: Path) -> None:
        self.events: list[str] = []
        self._path = path
        self.settings = Settings(home=path / "home", models=path)
        self.settings.home.mkdir()
        self.apply("clicks")
        shared: Any = SimpleNamespace(settings=self.settings)
        self.subject = Deployments(shared, self._new_deployment)

    def _new_deployment(self, _shared: Any, declared: Any, text: bytes) -> Any:
        return FakeDeployment(self.settings, self.events, declared, text)

    def apply(self, project: str, name: str = SERVICE) -> None:
        """Apply a Feast repository with an empty feature service."""
        self.apply_invalid(project)
        plan_cache.store(self.settings, FeaturePlan(project, (), {name: ()}))

    def apply_invalid(self, project: str) -> None:
        """Apply a repository that is not compiled yet."""
        plan_cache.registry_path(self.settings).write_text(project)

    def declare(self, name: str, threshold: float = 0.5) -> None:
        declared = declaration(name=name, threshold=threshold)
        values = declared.model_dump(by_alias=True, exclude_defaults=True, mode="json")
        self.write(name, yaml.safe_dump(values))

    def write(self, name: str, text: str) -> None:
        (self._path / name).mkdir(exist_ok=True)
        (self._path / name / "model.yaml").write_text(text, encoding="utf-8")

    def remove(self, name: str) -> None:
        (self._path / name / "model.yaml").unlink()

    async def reconcile(self) -> None:
        """Look at the folder and wait until no model is being started."""
        await self.subject.reconcile()
        async with asyncio.timeout(SECONDS_MAX):
            while self.subject.starting:  # noqa: ASYNC110  # a start has no event
                await asyncio.sleep(0)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_models_are_deployed_replaced_and_retired_as_declared(folder: Folder):
    async def run():
        folder.declare("a")
        folder.declare("b")
        await folder.subject.reconcile()
        assert folder.subject.absent == {"a": "is being started", "b": "is being started"}
        await folder.reconcile()
        assert folder.subject.absent == {}
        assert sorted(folder.events) == ["start a 0.5", "start b 0.5"]
        folder.events.clear()
        await folder.reconcile()
        assert folder.events == [], "unchanged models are left alone"
        folder.declare("a", 0.7)
        folder.remove("b")
        await folder.reconcile()
        assert sorted(folder.events) == ["start a 0.7", "stop a 0.5", "stop b 0.5"]
        assert folder.events.index("stop a 0.5") < folder.events.index("start a 0.7")

    asyncio.run(run())
    assert list(folder.subject.predictors) == ["a"]
    assert folder.subject.faults == {}


def test_an_unreadable_declaration_leaves_its_model_as_it_was_and_others_alone(folder: Folder):
    async def run():
        folder.declare("a")
        await folder.reconcile()
        folder.write("a", "task: nonsense\n")
        folder.declare("b")
        await folder.reconcile()

    asyncio.run(run())
    assert folder.events == ["start a 0.5", "start b 0.5"]
    assert folder.subject.deployed.keys() == {"a", "b"}
    assert folder.subject.faults.keys() == {"a"}
    assert sample("driftline_models_broken", model="b") == 0


def test_a_broken_model_is_shown_and_retried_until_its_declaration_is_repaired(folder: Folder):
    async def run():
        folder.declare("a", 0.17)
        await folder.reconcile()
        assert folder.subject.faults == {"a": "the feature service does not exist"}
        await folder.reconcile()
        assert sample("driftline_models_broken", model="a") == 1
        folder.declare("a")
        await folder.reconcile()
        await folder.reconcile()

    asyncio.run(run())
    assert folder.events == ["start a 0.5"]
    assert folder.subject.faults == {}
    assert sample("driftline_models_broken", model="a") == 0


def test_a_model_that_does_not_start_is_stopped_and_its_fault_goes_with_its_declaration(folder: Folder):
    async def run():
        folder.declare("a", 0.13)
        await folder.reconcile()
        assert folder.events == ["stop a 0.13"]
        assert folder.subject.faults == {"a": "no broker"}
        assert folder.subject.absent == {"a": "cannot be started; the reason is in /health/ready"}
        folder.remove("a")
        await folder.reconcile()

    asyncio.run(run())
    assert folder.subject.faults == {}


def test_a_model_whose_group_failed_is_restarted(folder: Folder):
    async def run():
        folder.declare("a")
        await folder.reconcile()
        group: Any = folder.subject.deployed["a"].group
        group.failure = "the lane has crashed"
        await folder.reconcile()

    asyncio.run(run())
    assert folder.events == ["start a 0.5", "stop a 0.5", "start a 0.5"]


def test_the_end_retires_every_model(folder: Folder):
    async def run():
        folder.declare("a")
        async with folder.subject.running():
            while folder.subject.starting:  # noqa: ASYNC110  # a start has no event
                await asyncio.sleep(0)

    asyncio.run(run())
    assert folder.events == ["start a 0.5", "stop a 0.5"]
    assert folder.subject.deployed == {}


def test_an_edit_of_the_feast_repository_restarts_the_models_that_it_changes(folder: Folder):
    async def run():
        folder.declare("a")
        await folder.reconcile()
        folder.apply("clicks, other metadata")
        plan_cache.store(folder.settings, FeaturePlan("clicks", (), {SERVICE: (), "other": ()}))
        await folder.reconcile()
        assert folder.events == ["start a 0.5"]
        folder.apply("visits")
        await folder.reconcile()
        await folder.reconcile()

    asyncio.run(run())
    assert folder.events == ["start a 0.5", "stop a 0.5", "start a 0.5"]
    assert folder.subject.faults == {}


def test_a_model_whose_feature_service_is_removed_goes_on_and_says_so(folder: Folder):
    async def run():
        folder.declare("a")
        await folder.reconcile()
        folder.apply("clicks", "other")
        await folder.reconcile()
        assert "there is no feature service" in folder.subject.faults["a"]
        folder.apply("clicks again")
        await folder.reconcile()

    asyncio.run(run())
    assert folder.events == ["start a 0.5", "stop a 0.5", "start a 0.5"]
    assert folder.subject.faults == {}


def test_a_repository_that_cannot_be_compiled_is_shown_until_it_is_mended(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
):
    def fails(_settings: Settings) -> FeaturePlan:
        compiled.append(1)
        raise PlanError("view 'v': udf")

    compiled: list[int] = []

    async def run():
        folder.declare("a")
        await folder.reconcile()
        folder.apply_invalid("with a udf")
        monkeypatch.setattr(plan_watch, "load_apart", fails)
        await folder.reconcile()
        await folder.reconcile()
        assert len(compiled) == 1
        assert folder.subject.faults == {
            "a": "the applied Feast repository cannot be used: view 'v': udf; "
            "the features are served as before"
        }
        assert sample("driftline_models_broken", model="a") == 1
        monkeypatch.undo()
        folder.apply("clicks")
        await folder.reconcile()

    asyncio.run(run())
    assert (folder.events, folder.subject.faults) == (["start a 0.5"], {})
