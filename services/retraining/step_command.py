"""``driftline retraining step`` runs one step of a retraining in its run folder."""

from pathlib import Path

from services.model_registry.mlflow_client import RegistryError
from services.model_registry.model_inputs import InputsError
from services.model_registry.training_code import TrainingCodeError
from services.retraining.errors import RetrainingError
from services.retraining.run_folder import REQUEST, RunFolder
from services.retraining.steps import pipeline
from services.retraining.steps.definition import run_step
from services.runtime.command_output import fail, ok, say
from services.runtime.settings import Settings


def step(name: str, *, run: Path) -> None:
    """Run one step, unless nothing that it reads has changed since it was done.

    The steps are, in this order, extract, validate, train, evaluate, gate, card and register. Each writes its
    results and their digests into the folder. A registered version scores no requests before its promotion.

    Args:
        name: The step.
        run: The folder of the run, below runs/ in the home folder.
    """
    folder = RunFolder(run)
    if not folder.has(REQUEST):
        fail(f"{run} is no folder of a run: it has no {REQUEST}; 'driftline retrain' makes one")
    try:
        wanted = pipeline.step_of(name)
        with pipeline.locked(folder):
            is_new = run_step(wanted, folder, Settings())
    except (RetrainingError, RegistryError, InputsError, TrainingCodeError) as error:
        fail(str(error))
    if is_new:
        ok(f"{name}: wrote {', '.join(wanted.outputs)}")
    else:
        say(f"{name}: nothing that it reads has changed")
