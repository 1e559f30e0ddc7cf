"""Stages of DVC follow from the steps."""

from pathlib import Path

from services.retraining.orchestration import dvc_stages
from services.retraining.run_folder import RunFolder
from services.retraining.steps import pipeline
from services.retraining.steps.definition import Step

KEPT = {"cache": False, "persist": True}


def nothing(*_: object) -> None:
    """Do nothing."""


def test_a_stage_has_the_files_of_its_step(tmp_path: Path) -> None:
    step = Step("double", ("in",), ("out", "page"), nothing, optional_inputs=("hint", "absent"))
    run = RunFolder(tmp_path)
    run.write("hint", 1)
    assert dvc_stages.pipeline_of([step], run) == {
        "stages": {
            "double": {
                "cmd": "driftline retraining step double --run .",
                "deps": ["in", "hint"],
                "outs": [{"out": KEPT}, {"page": KEPT}],
            }
        }
    }


def test_every_step_is_a_stage_in_order(tmp_path: Path) -> None:
    stages = dvc_stages.pipeline_of(pipeline.STEPS, RunFolder(tmp_path))["stages"]
    assert list(stages) == [step.name for step in pipeline.STEPS]
