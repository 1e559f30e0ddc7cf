"""A candidate is trained, measured beside the serving version, and judged."""

from pathlib import Path
from typing import Any

import pytest

from services.model_registry import loading
from services.model_registry.mlflow_client import RegistryError
from services.retraining import evidence
from services.retraining.errors import RetrainingError
from services.retraining.evidence import Evaluation
from services.retraining.gates import GateReport
from services.retraining.run_folder import EVALUATION, GATES, RunFolder
from services.retraining.steps import data_steps, model_steps
from services.retraining.steps.definition import run_step
from services.runtime.declaration import Gates
from services.runtime.settings import Settings
from tests.unit.retraining import runs
from tests.unit.retraining.training_data import declaration

SETTINGS = Settings(_env_file=None)


def judged(run: RunFolder) -> list[str]:
    for step in (data_steps.VALIDATE, model_steps.TRAIN, model_steps.EVALUATE, model_steps.GATE):
        run_step(step, run, SETTINGS)
    return run.read(GATES, GateReport).reasons


def test_without_a_champion_the_floor_alone_decides(tmp_path: Path) -> None:
    run = runs.extracted(tmp_path)
    assert judged(run) == []
    found = run.read(EVALUATION, Evaluation)
    assert found.metrics["auc"] > 0.8
    assert found.importances["x"] > 0.1
    assert found.importances["colour"] == 0
    assert (found.champion, found.champion_version, found.held_out_rows) == (None, None, 300)
    assert found.outputs_sha256 == evidence.digest_of(evidence.read(run).outputs)


def test_the_champion_is_measured_on_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int] = []

    def load(*given: Any) -> runs.ByX:
        loaded.append(given[3])
        return runs.ByX()

    monkeypatch.setattr(loading, "load", load)
    run = runs.extracted(tmp_path, champion=3)
    reasons = judged(run)
    found = run.read(EVALUATION, Evaluation)
    assert found.champion is not None
    assert (loaded, found.champion_version) == ([3], 3)
    assert "3 blocks of 24 hours, but a comparison needs" in reasons[0]
    assert found.named()["champion_log_loss"] == found.champion["log_loss"]


def test_a_floor_that_is_not_reached_is_a_reason(tmp_path: Path) -> None:
    strict = declaration(holdout_days=3, minimum_labels=100).model_copy(update={"gates": Gates(floor=0.1)})
    assert "is above the maximum of 0.1" in judged(runs.extracted(tmp_path, strict))[0]


def test_a_champion_that_cannot_be_loaded_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> None:
        raise RegistryError("its files were changed")

    monkeypatch.setattr(loading, "load", load)
    with pytest.raises(RetrainingError, match="its files were changed; or make another version the champion"):
        judged(runs.extracted(tmp_path, champion=3))


def test_only_what_follows_a_change_is_done_again(tmp_path: Path) -> None:
    run = runs.extracted(tmp_path)
    judged(run)
    (run.path / "code" / "training.py").write_text(runs.TRAINING + "\n# changed\n")
    steps = (data_steps.VALIDATE, model_steps.TRAIN, model_steps.EVALUATE)
    assert [run_step(step, run, SETTINGS) for step in steps] == [False, True, False]


def test_the_gate_of_the_card_judges_the_card_of_this_candidate(tmp_path: Path) -> None:
    gates = Gates(floor=0.75, model_card=True)
    declared = declaration(holdout_days=3, minimum_labels=100).model_copy(update={"gates": gates})
    assert judged(runs.extracted(tmp_path / "complete", declared)) == []
    governance = declared.governance.model_copy(update={"limitations": " ", "risk": ""})
    silent = declared.model_copy(update={"governance": governance})
    reasons = judged(runs.extracted(tmp_path / "silent", silent))
    assert reasons == ["model card: sections without text: Owner and risk, Limitations"]
