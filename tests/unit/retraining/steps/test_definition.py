"""A step is skipped exactly if what it has read and written is unchanged."""

from pathlib import Path

import pytest

from services.retraining.run_folder import RunFolder
from services.retraining.steps.definition import Step, StepError, run_step
from services.runtime.settings import Settings

SETTINGS = Settings(_env_file=None)


def double(run: RunFolder, _: Settings) -> None:
    run.write("out", run.read("in", int) * 2)


STEP = Step("double", ("in",), ("out",), double, optional_inputs=("hint",))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    made.write("in", 2)
    return made


def test_a_step_that_is_done_is_skipped(run: RunFolder) -> None:
    assert run_step(STEP, run, SETTINGS)
    assert run.read("out", int) == 4
    assert not run_step(STEP, run, SETTINGS)


@pytest.mark.parametrize(("name", "value"), [("in", 3), ("out", 5), ("hint", 1)])
def test_a_step_is_done_again_when_a_file_of_it_has_changed(run: RunFolder, name: str, value: int) -> None:
    run_step(STEP, run, SETTINGS)
    run.write(name, value)
    assert run_step(STEP, run, SETTINGS)
    assert run.read("out", int) == 2 * run.read("in", int)


def test_a_step_without_its_record_or_with_half_of_it_is_done_again(run: RunFolder) -> None:
    """The record is the last that is written: a kill before it leaves the step undone."""
    run_step(STEP, run, SETTINGS)
    run.remove(STEP.record)
    assert run_step(STEP, run, SETTINGS)
    run.write_bytes(STEP.record, b'{"step": "dou')
    assert run_step(STEP, run, SETTINGS)


def test_a_step_that_fails_leaves_no_record(run: RunFolder) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no")

    run_step(STEP, run, SETTINGS)
    with pytest.raises(ValueError, match="no"):
        run_step(Step("double", ("in",), ("out",), fail), run, SETTINGS)
    assert not run.has(STEP.record)


def test_an_absent_input_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"the step double needs in in .*: run the steps before it first"):
        run_step(STEP, RunFolder(tmp_path), SETTINGS)
