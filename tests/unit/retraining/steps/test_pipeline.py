"""All steps in order, each once, whatever happens between them."""

from pathlib import Path

import pytest

from services.model_registry import mlflow_client
from services.retraining import mlflow_run
from services.retraining.errors import InvalidDataError
from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.run_folder import REGISTERED, RunFolder
from services.retraining.steps import pipeline
from services.retraining.steps.definition import StepError
from services.runtime.settings import Settings
from streams.records import Reference
from tests.unit.retraining import runs
from tests.unit.retraining.training_data import declaration


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> runs.MemoryRegistry:
    made = runs.MemoryRegistry()
    monkeypatch.setattr(mlflow_client, "connect", lambda _: made)
    return made


def test_every_input_is_an_output_of_a_step_before_or_of_the_preparation(tmp_path: Path) -> None:
    there = {each.relative_to(tmp_path / "run").as_posix() for each in files_of(runs.prepared(tmp_path))}
    for step in pipeline.STEPS:
        assert set(step.inputs) <= there, step.name
        there |= set(step.outputs)


def files_of(run: RunFolder) -> list[Path]:
    return [each for each in run.path.rglob("*") if each.is_file()]


def test_a_step_is_found_by_its_name() -> None:
    assert pipeline.step_of("train").name == "train"
    with pytest.raises(StepError, match=r"no step 'trian'; the steps are, in this order, extract, validate,"):
        pipeline.step_of("trian")


def test_a_request_whose_version_exists_is_not_trained_again(
    tmp_path: Path, registry: runs.MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be lost with the machine."""
    known = RegisteredCandidate(
        4, "r", 9, {}, [], Reference(version=4, features=[], score=None, log_loss=0.5)
    )
    monkeypatch.setattr(mlflow_run, "restore", lambda *_: known)
    run = runs.prepared(tmp_path)
    assert pipeline.run_all(run, Settings(home=tmp_path)) == known
    assert run.has(REGISTERED)
    assert registry.aliases["champion"] == "4"
    assert pipeline.run_all(run, Settings(home=tmp_path)) == known


def test_a_fault_of_the_data_is_told_in_a_failed_run(
    tmp_path: Path, registry: runs.MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.extracted(tmp_path, declaration(minimum_labels=5000))
    monkeypatch.setattr(pipeline, "STEPS", pipeline.STEPS[1:])
    with pytest.raises(InvalidDataError):
        pipeline.run_all(run, Settings(home=tmp_path))
    assert registry.ended == ["FAILED"]
    assert "minimum_labels is 5000" in registry.tags["driftline.error"]
    assert "run/data.json" in registry.files
