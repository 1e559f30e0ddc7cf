"""A candidate becomes a version with all that is needed to promote and to repeat it."""

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from services.model_registry import ledger_drafts, mlflow_client, model_card, model_card_store
from services.model_registry.ledger_chain import ORIGIN, decoded, sealed
from services.model_registry.model_card import ModelCard
from services.retraining import ledger_evidence, mlflow_run
from services.retraining.gates import GateReport
from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.run_folder import DATA_VERSION, GATES, REFERENCE, REGISTERED, RunFolder
from services.retraining.steps import pipeline, release_steps
from services.retraining.steps.definition import run_step
from services.retraining.training_set import DataDescription
from services.runtime.declaration import Gates, Rollout
from services.runtime.settings import Settings
from streams.records import LedgerEntry, Reference, RetrainingFinished
from tests.unit.retraining import runs
from tests.unit.retraining.training_data import declaration


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> runs.MemoryRegistry:
    made = runs.MemoryRegistry()
    monkeypatch.setattr(mlflow_client, "connect", lambda _: made)
    return made


def released(folder: Path, floor: float = 0.75, rollout: Rollout | None = None) -> tuple[RunFolder, Settings]:
    declared = declaration(holdout_days=3, minimum_labels=100).model_copy(
        update={"gates": Gates(floor=floor), "rollout": rollout or Rollout()}
    )
    run, settings = runs.extracted(folder, declared), Settings(home=folder)
    for step in pipeline.STEPS[1:]:
        run_step(step, run, settings)
    return run, settings


def test_a_version_tells_its_data_its_code_and_its_gates(
    tmp_path: Path, registry: runs.MemoryRegistry
) -> None:
    run, settings = released(tmp_path)
    registered = release_steps.announce(run, settings)
    assert (registered.version, registered.reasons, registered.rows) == (1, [], 1000)
    assert registered.reference.version == 1
    assert registry.aliases["champion"] == "1"
    assert registry.versions[0].tags[mlflow_client.REQUEST_TAG] == "r1"
    logged = registry.logged
    assert logged["driftline.data.tables"] == "predictions@1 outcomes@2"
    assert (logged["driftline.code.version"], logged["driftline.code.git_commit"]) == ("1", "abc")
    assert len(logged["driftline.code.training_sha256"]) == len(logged["driftline.data.sha256"]) == 64
    assert (logged["driftline.gates"], logged["driftline.champion"]) == ("passed", "none")
    assert logged["log_loss"] == registered.metrics["log_loss"]
    assert {
        "run/code/training.py",
        "run/context.json",
        "run/gates.json",
        "plots/importance.png",
        "plots/classes.png",
    } <= set(registry.files)
    kept = msgspec.json.decode(registry.files[mlflow_run.ARTIFACT], type=RegisteredCandidate)
    assert (kept.version, kept.rows) == (0, 1000)


def test_the_card_is_stored_with_the_version_and_is_not_stale(
    tmp_path: Path, registry: runs.MemoryRegistry
) -> None:
    run, _ = released(tmp_path)
    assert {"card/model_card.md", "card/model_card.html", "card/model_card.json"} <= set(registry.files)
    stored = msgspec.json.decode(registry.files["card/model_card.json"], type=ModelCard)
    facts = model_card_store.facts_of(1, registry.versions[0].tags, registry.run, ledger(run))
    current = model_card.build(run.declaration, facts, ledger(run), now_ms=5)
    assert model_card.stale_sections(stored, current) == []
    assert model_card.missing_sections(stored) == []
    text = registry.files["card/model_card.md"].decode()
    assert text.startswith("# arrival_delay candidate\n")
    assert "driftline.signature" in registry.files["card/model_card.html"].decode()


def ledger(run: RunFolder) -> list[LedgerEntry]:
    """Return the entries that the service writes of a run that has ended."""
    data = ledger_evidence.data_set_of(run.read(DATA_VERSION, DataDescription))
    finished = RetrainingFinished(
        request_id="r1",
        model="arrival_delay",
        trigger="drift",
        requested_at_ms=0,
        duration_seconds=0.0,
        result="promoted",
        version=1,
    )
    results = run.read(GATES, GateReport).results
    drafts = ledger_drafts.of_result(finished, at_ms=1, data_set=data, gates=results)
    return [decoded(sealed(draft, 1, ORIGIN)) for draft in drafts]


def test_a_request_gets_one_version_whatever_is_repeated(
    tmp_path: Path, registry: runs.MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, settings = released(tmp_path)
    first = run.read(REGISTERED, RegisteredCandidate)
    monkeypatch.setattr(mlflow_run, "_restore", lambda _client, _version: first)
    run.remove(REGISTERED)
    assert run_step(release_steps.REGISTER, run, settings)
    assert run.read(REGISTERED, RegisteredCandidate) == first
    assert len(registry.versions) == 1


def test_another_candidate_of_a_request_is_told_that_its_version_is_kept(
    tmp_path: Path, registry: runs.MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, settings = released(tmp_path)
    first = run.read(REGISTERED, RegisteredCandidate)
    assert release_steps.kept_text(run) == "", "it is of this candidate"
    monkeypatch.setattr(mlflow_run, "_restore", lambda _client, _version: first)
    (run.path / "code" / "training.py").write_text(
        runs.TRAINING.replace("Regression()", "Regression(C=1e-3)")
    )
    run.remove(REGISTERED)
    for step in pipeline.STEPS[1:]:
        run_step(step, run, settings)
    assert release_steps.kept_text(run) == (
        "this candidate was not registered: its request has arrival_delay version 1 already, which is kept; "
        "they differ in training.py and scores. To register it, make a new request: "
        "'driftline retraining prepare arrival_delay'"
    )
    assert run.read(REGISTERED, RegisteredCandidate).version == first.version


def test_a_refused_candidate_is_registered_as_challenger(
    tmp_path: Path, registry: runs.MemoryRegistry
) -> None:
    run, settings = released(tmp_path, floor=0.1)
    assert release_steps.announce(run, settings).reasons
    assert registry.aliases == {mlflow_client.CHALLENGER: "1"}


def test_a_candidate_that_a_rollout_will_lead_is_registered_as_challenger(
    tmp_path: Path, registry: runs.MemoryRegistry
) -> None:
    steps = [{"share": "shadow"}, {"share": "100%"}]
    run, settings = released(tmp_path, rollout=Rollout.model_validate({"steps": steps}))
    assert not release_steps.announce(run, settings).reasons
    assert registry.aliases == {mlflow_client.CHALLENGER: "1"}


def test_the_reference_is_of_the_rows_that_were_trained_on(
    tmp_path: Path, registry: runs.MemoryRegistry
) -> None:
    run, _ = released(tmp_path)
    reference = run.read(REFERENCE, Reference)
    assert [each.feature for each in reference.features] == ["x", "colour"]
    assert sum(reference.features[0].counts) == 501
    assert registry.ended == ["FINISHED"]


def test_runs_that_a_kill_has_left_open_are_ended(tmp_path: Path, registry: runs.MemoryRegistry) -> None:
    tags = {mlflow_client.REQUEST_TAG: "r1"}
    other = {mlflow_client.REQUEST_TAG: "r2"}
    registry.open_runs = [
        {"info": SimpleNamespace(run_id=run_id), "data": SimpleNamespace(tags=found)}
        for run_id, found in (("run-0", tags), ("run-1", tags), ("run-2", other), ("run-3", {}))
    ]
    run, settings = released(tmp_path)
    registry.ended.clear()
    release_steps.announce(run, settings)
    assert registry.ended == ["KILLED", "FINISHED"], "run-1 is that of the version"
