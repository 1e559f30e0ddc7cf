"""``driftline retraining dvc`` makes a run folder a pipeline of DVC."""

from pathlib import Path

from services.retraining.orchestration import dvc_stages
from services.retraining.run_folder import REQUEST, RunFolder
from services.retraining.steps import pipeline
from services.runtime import yaml_text
from services.runtime.command_output import fail, ok

WIDTH = 110


def dvc(*, run: Path) -> None:
    """Write a dvc.yaml with one stage for each step into a run folder; 'dvc repro' runs what has changed.

    Args:
        run: The folder of the run, below runs/ in the home folder.
    """
    folder = RunFolder(run)
    if not folder.has(REQUEST):
        fail(f"{run} is no folder of a run: it has no {REQUEST}; 'driftline retraining prepare' makes one")
    text = yaml_text.as_yaml(dvc_stages.pipeline_of(pipeline.STEPS, folder), WIDTH)
    folder.write_bytes(dvc_stages.FILE, text.encode())
    ok(f"wrote {run / dvc_stages.FILE}; in this folder, run: dvc repro")
