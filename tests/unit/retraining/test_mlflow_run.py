"""What a retraining does in MLflow, with a client in memory."""

import types
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.model_registry import bounded_download, mlflow_client
from services.retraining import ledger_evidence, mlflow_run, run_folder
from services.retraining.gates import GateReport, GateResult
from services.retraining.mlflow_run import ARTIFACT, RegisteredCandidate, RetrainingRun
from services.retraining.run_folder import REQUEST, VALIDATION
from services.retraining.training_set import DataDescription
from services.runtime.settings import Settings
from streams import records
from tests.unit.retraining import training_data

MODEL = training_data.DECLARATION.name
REFERENCE = records.Reference(version=0, features=[], score=None, log_loss=0.5)
KEPT = RegisteredCandidate(0, "run-1", 9, {"log_loss": 0.5}, [], REFERENCE)


class MemoryClient:
    """The registry of one model, and its runs."""

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.versions: list[Any] = []
        self.tags: dict[str, str] = {}
        self.ended: list[tuple[str, str]] = []
        self.created: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.artifact_uri = "mlflow-artifacts:/1/run-1/artifacts"
        self.tracking_uri = "http://mlflow:5000"

    def get_experiment_by_name(self, name: str) -> Any:
        return types.SimpleNamespace(experiment_id=f"experiment {name}", lifecycle_stage="active")

    def search_runs(self, experiments: list[str], wanted: str) -> list[Any]:
        assert (experiments, wanted) == ([f"experiment {MODEL}"], "attributes.status = 'RUNNING'")
        return []

    def create_run(self, experiment: str, *, run_name: str, tags: dict[str, str]) -> Any:
        self.created = {"experiment": experiment, "name": run_name, "tags": tags}
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="run-1"))

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        self.tags[name] = value

    def set_terminated(self, run_id: str, status: str) -> None:
        self.ended.append((run_id, status))

    def search_model_versions(self, wanted: str) -> list[Any]:
        assert wanted == f"name='{MODEL}'"
        return self.versions

    def get_run(self, run_id: str) -> Any:
        return types.SimpleNamespace(info=types.SimpleNamespace(artifact_uri=self.artifact_uri))

    def list_artifacts(self, run_id: str, folder: str) -> list[Any]:
        assert run_id == "run-1"
        return [types.SimpleNamespace(path=path) for path in self.files if path.startswith(f"{folder}/")]

    def download(self, uri: str, folder: Path, tracking_uri: str, bytes_max: int, file: str) -> None:
        assert (uri, tracking_uri) == (self.artifact_uri, self.tracking_uri)
        if file != ARTIFACT:
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(self.files[file])
            return
        kept = msgspec.json.encode(KEPT)
        if len(kept) > bytes_max:
            raise bounded_download.SizeError("too large")
        (folder / file).write_bytes(kept)

    def get_registered_model(self, name: str) -> Any:
        return types.SimpleNamespace(aliases=self.aliases)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        assert name == MODEL
        self.aliases[alias] = version


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> MemoryClient:
    found = MemoryClient()
    monkeypatch.setattr(bounded_download, "download", found.download)
    monkeypatch.setattr(mlflow_client, "experiment_id", lambda client, name: f"experiment {name}")
    monkeypatch.setattr(
        mlflow_client,
        "version_of",
        lambda client, name, alias: int(found.aliases[alias]) if alias in found.aliases else None,
    )
    return found


def test_the_run_is_named_and_tagged_by_its_request(client: MemoryClient) -> None:
    with RetrainingRun(client, Settings(), training_data.request("r7")):
        assert client.created["name"] == "r7"
        assert client.created["tags"][mlflow_client.REQUEST_TAG] == "r7"
        assert "driftline.advised_from_ms" not in client.created["tags"]
    assert client.ended == [("run-1", "FINISHED")]
    assert client.tags == {}


def test_an_error_ends_the_run_as_failed_with_its_message(client: MemoryClient) -> None:
    run = RetrainingRun(client, Settings(), training_data.request())
    with pytest.raises(ValueError, match="no rows"), run:
        raise ValueError("no rows")
    assert client.ended == [("run-1", "FAILED")]
    assert client.tags == {"driftline.error": "no rows"}


def test_a_candidate_of_before_a_crash_is_found_by_its_request(client: MemoryClient) -> None:
    for number, request_id in ((3, "r1"), (4, "r2")):
        tags = {mlflow_client.REQUEST_TAG: request_id}
        client.versions.append(types.SimpleNamespace(version=str(number), run_id="run-1", tags=tags))
    found = mlflow_run.find(client, MODEL, "r2")
    assert found is not None
    assert (found.version, found.reference.version, found.rows) == (4, 4, 9)
    assert mlflow_run.find(client, MODEL, "r3") is None


def test_a_candidate_that_is_too_large_is_not_read(
    client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_run, "ARTIFACT_BYTES_MAX", 10)
    tags = {mlflow_client.REQUEST_TAG: "r2"}
    client.versions.append(types.SimpleNamespace(version="4", run_id="run-1", tags=tags))
    assert mlflow_run.find(client, MODEL, "r2") is None


def test_a_candidate_whose_files_are_elsewhere_is_not_read(client: MemoryClient) -> None:
    """Whoever writes to the registry may tag a version of a run whose files are anywhere."""
    client.artifact_uri = "file:///etc"
    tags = {mlflow_client.REQUEST_TAG: "r2"}
    client.versions.append(types.SimpleNamespace(version="4", run_id="run-1", tags=tags))
    assert mlflow_run.find(client, MODEL, "r2") is None


def test_a_run_of_another_machine_brings_what_the_ledger_says_of_it(
    client: MemoryClient, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    run = run_folder.of_request(settings, MODEL, "r1")
    run.write(REQUEST, training_data.request())
    tags = {mlflow_client.REQUEST_TAG: "r1"}
    client.versions.append(types.SimpleNamespace(version="4", run_id="run-1", tags=tags))
    assert mlflow_run.restore(client, run) == mlflow_run.with_version(KEPT, 4)
    assert ledger_evidence.of_run(settings, MODEL, "r1") == (None, []), "an older version kept no such files"
    gate = GateResult("champion", "passed", "better")
    version = training_data.training_set().version
    client.files = {
        "run/data.json": msgspec.json.encode(DataDescription(version=version, text=[], left_out=7)),
        "run/gates.json": msgspec.json.encode(GateReport([gate])),
        "run/validation.json": b"{}",
    }
    assert mlflow_run.restore(client, run) == mlflow_run.with_version(KEPT, 4)
    data_set, gates = ledger_evidence.of_run(settings, MODEL, "r1")
    assert data_set is not None
    assert (data_set["sha256"], data_set["left_out"], gates) == (version.sha256, 7, [gate])
    assert not run.has(VALIDATION)


def test_a_request_without_a_version_brings_nothing(client: MemoryClient, tmp_path: Path) -> None:
    run = run_folder.of_request(Settings(home=tmp_path), MODEL, "r1")
    run.write(REQUEST, training_data.request())
    assert mlflow_run.restore(client, run) is None


def test_a_promotion_keeps_the_previous_champion_and_may_be_repeated(client: MemoryClient) -> None:
    client.aliases = {"champion": "1"}
    for _ in range(2):
        mlflow_run.promote(client, training_data.DECLARATION, 2)
    assert client.aliases == {"champion": "2", mlflow_client.PREVIOUS: "1"}


def test_the_first_champion_is_also_the_frozen_shadow(client: MemoryClient) -> None:
    declaration = training_data.declaration("rollout", keep_first_as_shadow="frozen")
    mlflow_run.promote(client, declaration, 1)
    mlflow_run.promote(client, declaration, 2)
    assert client.aliases == {"champion": "2", mlflow_client.PREVIOUS: "1", "frozen": "1"}


def test_a_refused_candidate_is_the_challenger(client: MemoryClient) -> None:
    client.aliases = {"champion": "1"}
    mlflow_run.make_challenger(client, training_data.DECLARATION, 2)
    assert client.aliases == {"champion": "1", mlflow_client.CHALLENGER: "2"}


def test_the_file_of_a_candidate_is_read_as_it_was_written() -> None:
    assert ARTIFACT.endswith(".json")
    assert msgspec.json.decode(msgspec.json.encode(KEPT), type=RegisteredCandidate) == KEPT
