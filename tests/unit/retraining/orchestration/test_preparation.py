"""What is refused before anything is asked of a server; tests/flow/test_pipelines.py does the rest."""

from pathlib import Path

import pytest

from services.retraining.errors import RetrainingError
from services.retraining.orchestration import preparation
from services.retraining.run_folder import RunFolder
from services.retraining.steps.definition import Step
from services.runtime.settings import ROOT, Settings


def settings(folder: Path) -> Settings:
    return Settings(home=folder, models=folder / "models", _env_file=None)


def declare(folder: Path, text: str) -> None:
    path = folder / "models" / "arrival_delay" / "model.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_a_request_gets_the_id_that_it_is_given_or_a_new_one() -> None:
    given = preparation.request_of("delays", "nightly-1", "it is Monday")
    assert (given.model, given.request_id, given.trigger) == ("delays", "nightly-1", "manual")
    made = [preparation.request_of("delays", "", "").request_id for _ in range(2)]
    assert made[0] != made[1]


def test_a_model_that_cannot_be_retrained_is_refused(tmp_path: Path) -> None:
    request = preparation.request_of("arrival_delay", "r", "")
    with pytest.raises(RetrainingError, match="there is no model 'arrival_delay'; declared models: "):
        preparation.prepare(settings(tmp_path), request)
    text = (ROOT / "models" / "arrival_delay" / "model.yaml").read_text(encoding="utf-8")
    declare(tmp_path, text[: text.index("\ngates:")])
    with pytest.raises(RetrainingError, match=r"its model\.yaml has no section gates; add one"):
        preparation.prepare(settings(tmp_path), request)
    (tmp_path / "models" / "arrival_delay" / "model.yaml").write_text("name: 3")
    with pytest.raises(RetrainingError, match=r"the model\.yaml of arrival_delay is invalid: "):
        preparation.prepare(settings(tmp_path), request)


def test_a_run_without_a_version_is_not_submitted(tmp_path: Path) -> None:
    with pytest.raises(RetrainingError, match="run the steps first, in this order extract, validate"):
        preparation.submit(settings(tmp_path), RunFolder(tmp_path))


def test_a_step_is_run_once(tmp_path: Path) -> None:
    step = Step("write", (), ("out",), lambda run, _: run.write("out", 1))
    run = RunFolder(tmp_path / "run")
    assert [preparation.run_one(step, run, settings(tmp_path)) for _ in range(2)] == [True, False]
