"""The folder of models with which the trial runs."""

from pathlib import Path

import pytest

from services.demo.trial import candidates
from services.demo.trial.candidates import LEAKING_MODEL, MODEL, Candidate
from services.model_registry import training_code
from services.runtime import declaration_file
from services.runtime.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    candidates.write_models(Settings().models, tmp_path / "models")
    return tmp_path / "models"


def test_models_of_the_trial_have_gates_and_a_rollout(folder: Path) -> None:
    declared = declaration_file.load_all(folder)
    assert set(declared) == {*declaration_file.load_all(Settings().models), LEAKING_MODEL}
    gates = declared[MODEL].gates
    assert gates is not None
    assert gates.fairness is not None
    assert gates.latency is not None
    assert [step.share for step in declared[MODEL].rollout.steps] == [2000, 5000]
    assert declared[LEAKING_MODEL].gates == gates
    assert declared[LEAKING_MODEL].rollout.steps == ()


def test_only_the_leaking_model_is_given_the_field_that_leaks(folder: Path) -> None:
    given = {
        name: set(each.features.from_request) for name, each in declaration_file.load_all(folder).items()
    }
    assert given[LEAKING_MODEL] - given[MODEL] == {"arrival_code"}
    assert "airline_forecast" in given[MODEL]


@pytest.mark.parametrize("candidate", [*candidates.JUDGED, candidates.LEAKING], ids=lambda each: each.name)
def test_code_of_a_candidate_becomes_that_of_its_model(folder: Path, candidate: Candidate) -> None:
    path = folder / candidate.model / "training.py"
    before = path.read_text()
    candidates.set_code(folder, candidate)
    assert path.read_text() != before or candidate is candidates.LEAKING
    assert training_code.function_of(folder, candidate.model, "estimator")
    assert not list(folder.glob("*.part"))
