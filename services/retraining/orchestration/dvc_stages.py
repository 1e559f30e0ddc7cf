"""The steps of a retraining as the stages of a pipeline of DVC."""

from collections.abc import Iterable
from typing import Any

from services.retraining.run_folder import RunFolder
from services.retraining.steps.definition import Step

FILE = "dvc.yaml"


def pipeline_of(steps: Iterable[Step], run: RunFolder) -> dict[str, Any]:
    """Return the content of a run folder's dvc.yaml: one stage for each step.

    Outputs stay in the folder between runs (``persist``), so a step compares its own digests as well. They
    are not copied into DVC's cache: ``dvc push`` would send the rows and the pickle of the estimators.
    """
    return {"stages": {step.name: _stage(step, run) for step in steps}}


def _stage(step: Step, run: RunFolder) -> dict[str, Any]:
    kept = {"cache": False, "persist": True}
    return {
        "cmd": f"driftline retraining step {step.name} --run .",
        "deps": [*step.inputs, *(name for name in step.optional_inputs if run.has(name))],
        "outs": [{name: kept} for name in step.outputs],
    }
