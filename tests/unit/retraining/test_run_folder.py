"""The files of a run are complete or absent, and a repeat keeps what it compares with."""

import os
from pathlib import Path

import pytest

from services.retraining import run_folder
from services.retraining.run_folder import RunContext, RunFolder
from services.runtime.settings import Settings
from tests.unit.retraining import runs, training_data


def test_a_file_that_is_not_finished_is_absent(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin("a.json").write_text("{")
    assert not run.has("a.json")
    assert run.digest("a.json") is None
    run.finish("a.json")
    assert run.digest("a.json") == "021fb596db81e6d02bf3d2586ee3981fe519f275c0ac9ca76bbcf2ebb4097d96"


def test_a_folder_holds_what_was_asked_declared_and_written(tmp_path: Path) -> None:
    run = runs.prepared(tmp_path, champion=2)
    assert run.request == training_data.request()
    assert run.context.champion == 2
    assert run.context.given == runs.GIVEN
    declared = runs.with_nulls(training_data.declaration(holdout_days=3, minimum_labels=100))
    assert run.declaration.model_dump() == declared.model_dump()


def test_a_repeat_has_the_context_of_before_and_the_code_of_now(tmp_path: Path) -> None:
    run = runs.prepared(tmp_path, champion=2)
    old = tmp_path / "models" / "arrival_delay" / "old.py"
    old.write_text("")
    runs.prepared(tmp_path)
    assert run.has("code/old.py")
    old.unlink()
    bytecode = run.path / "code" / "__pycache__"
    bytecode.mkdir()
    (bytecode / "training.cpython-311.pyc").write_bytes(b"of the code of before")
    again = runs.prepared(tmp_path, champion=3)
    assert again.context.champion == 2
    assert not run.has("code/old.py")
    assert not bytecode.exists()
    assert run.has("code/training.py")


@pytest.mark.parametrize("request_id", ["../../etc", "a/b", "", ".", "x" * 300, "später"])
def test_a_folder_is_below_those_of_the_runs_whatever_the_id(tmp_path: Path, request_id: str) -> None:
    settings = Settings(home=tmp_path)
    found = run_folder.of_request(settings, "arrival_delay", request_id).path
    assert found.parent == tmp_path / "runs" / "arrival_delay"
    other = run_folder.of_request(settings, "arrival_delay", f"{request_id}?").path
    assert other != found


def test_all_of_a_folder_can_be_removed(tmp_path: Path) -> None:
    run = runs.prepared(tmp_path)
    run.remove_all()
    assert not run.path.exists()
    run.remove_all()
    run.write(run_folder.CONTEXT, RunContext(given={}))
    assert run.context == RunContext(given={})


def test_few_runs_of_a_model_stay_on_the_disk(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    made = [run_folder.of_request(settings, "m", f"r{number}") for number in range(6)]
    for number, run in enumerate(made):
        run.write("a", 1)
        os.utime(run.path, (number, number))
    run_folder.remove_old(made[0])
    assert [run.path.exists() for run in made] == [True, False, False, False, True, True]
