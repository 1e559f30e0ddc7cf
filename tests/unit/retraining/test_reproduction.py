"""A version is trained again from the files of its run."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from services.model_registry import artifact_location, bounded_download, mlflow_client
from services.model_registry.mlflow_client import RegistryError
from services.retraining import extraction, reproduction
from services.retraining.run_folder import CHOICES, CODE, DATA, DATA_VERSION, GIVEN_CHOICES
from services.retraining.steps import pipeline
from services.retraining.steps.definition import run_step
from services.retraining.training_set import DataDescription
from services.runtime.settings import Settings
from tests.unit.retraining import runs
from tests.unit.retraining.training_data import declaration


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> runs.MemoryRegistry:
    made = runs.MemoryRegistry()

    def get_run(_: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(artifact_uri="mlflow-artifacts:/1/run-1"))

    def download(_uri: str, folder: Path, _tracking: str, _maximum: int, part: str) -> None:
        for name, content in made.files.items():
            if name.startswith(f"{part}/"):
                is_code = name.endswith(".py")
                path = folder / part / (f"{CODE}/{Path(name).name}" if is_code else Path(name).name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    monkeypatch.setattr(made, "get_run", get_run, raising=False)
    monkeypatch.setattr(mlflow_client, "connect", lambda _: made)
    monkeypatch.setattr(bounded_download, "download", download)
    monkeypatch.setattr(artifact_location, "check", lambda *_: None)
    return made


def registered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Register a version, and let its data be extracted again as it was."""
    run, settings = (
        runs.extracted(folder, declaration(holdout_days=3, minimum_labels=100)),
        Settings(home=folder),
    )
    for step in pipeline.STEPS[1:]:
        run_step(step, run, settings)
    rows, description = (run.path / DATA).read_bytes(), run.read(DATA_VERSION, DataDescription)

    def extract(_: Settings, wanted: extraction.Wanted, path: Path) -> DataDescription:
        assert wanted.tables == {"predictions": 1, "outcomes": 2}
        path.write_bytes(rows)
        return description

    monkeypatch.setattr(extraction, "extract", extract)
    return settings


def test_a_version_is_reproduced_from_its_run_alone(
    tmp_path: Path, registry: runs.MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = registered(tmp_path, monkeypatch)
    run, known = reproduction.fetch(settings, "arrival_delay", 1, tmp_path / "again")
    assert (run.has(CHOICES), run.has(GIVEN_CHOICES)) == (False, True)
    found = reproduction.extract(run, settings)
    assert reproduction.data_differences(known.data, found) == []
    assert reproduction.score_differences(known.evaluation, reproduction.train(run, settings)) == []


def test_other_data_and_other_scores_are_told(
    tmp_path: Path, registry: runs.MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = registered(tmp_path, monkeypatch)
    run, known = reproduction.fetch(settings, "arrival_delay", 1, tmp_path / "again")
    changed = runs.TRAINING.replace("LogisticRegression()", "LogisticRegression(C=1e-4)")
    (run.path / CODE / "training.py").write_text(changed)
    reproduction.extract(run, settings)
    differences = reproduction.score_differences(known.evaluation, reproduction.train(run, settings))
    assert differences[0] == "scores: some differ"
    assert any(each.startswith("log_loss ") for each in differences)
    version = dataclasses.replace(known.data.version, sha256="0" * 64, rows=7)
    other = msgspec.structs.replace(known.data, version=version)
    (text,) = reproduction.data_differences(known.data, other)
    assert "with 7 rows instead of 1000" in text


def test_a_version_without_files_to_repeat_it_is_told(
    tmp_path: Path, registry: runs.MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = registered(tmp_path, monkeypatch)
    with pytest.raises(RegistryError, match="has no version 7; registered versions: 1"):
        reproduction.fetch(settings, "arrival_delay", 7, tmp_path / "again")
    registry.files.clear()
    with pytest.raises(RegistryError, match="its run has no files to repeat it with"):
        reproduction.fetch(settings, "arrival_delay", 1, tmp_path / "again")
