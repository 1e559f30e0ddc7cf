"""All steps of a retraining in their order: one definition for service, commands and orchestrators."""

import contextlib
import fcntl
from collections.abc import Iterator

from services.model_registry import mlflow_client
from services.retraining import mlflow_run
from services.retraining.errors import RetrainingError
from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.run_folder import LOCK, REGISTERED, RunFolder
from services.retraining.steps import data_steps, model_steps, release_steps
from services.retraining.steps.definition import Step, StepError, run_step
from services.runtime.settings import Settings
from streams.outages import is_outage

STEPS = (
    data_steps.EXTRACT,
    data_steps.VALIDATE,
    model_steps.TRAIN,
    model_steps.EVALUATE,
    model_steps.GATE,
    release_steps.CARD,
    release_steps.REGISTER,
)


def step_of(name: str) -> Step:
    """Return the step of a name; raise `StepError` with those that exist."""
    for step in STEPS:
        if step.name == name:
            return step
    known = ", ".join(step.name for step in STEPS)
    raise StepError(f"there is no step {name!r}; the steps are, in this order, {known}")


def run_all(run: RunFolder, settings: Settings) -> RegisteredCandidate:
    """Run the steps that are not done, and return the registered candidate; repeatable after a kill.

    A request that has a version already gets this one, also if its folder was lost.

    Raises:
        RetrainingError: A step found a fault; the run in MLflow says so.
        Exception: Whatever the model's own code, or an outage, raises.
    """
    with locked(run):
        if not run.has(STEPS[0].record):
            _restore(run, settings)
        if not run.has(REGISTERED):
            try:
                for step in STEPS:
                    run_step(step, run, settings)
            except Exception as error:
                if not is_outage(error):
                    _tell_mlflow(run, settings, error)
                raise
        return release_steps.announce(run, settings)


@contextlib.contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Work on a folder alone: a process that outlives its parent for a moment must not register as well."""
    run.path.mkdir(parents=True, exist_ok=True)
    with (run.path / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released by the kernel at whatever end of the process
        yield


def _restore(run: RunFolder, settings: Settings) -> None:
    found = mlflow_run.restore(mlflow_client.connect(settings), run)
    if found is not None:
        run.write(REGISTERED, found)


def _tell_mlflow(run: RunFolder, settings: Settings, error: Exception) -> None:
    """Make a failed run with the error, for those who look there; its absence is no error of its own."""
    with contextlib.suppress(Exception):
        client = mlflow_client.connect(settings)
        with mlflow_run.RetrainingRun(client, settings, run.request) as failed:
            failed.upload_reports(run)
            raise RetrainingError(str(error))
