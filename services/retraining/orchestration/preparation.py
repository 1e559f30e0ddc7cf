"""Makes the run folder of a request without the service, and hands a registered version over to it."""

from services.retraining import retrain_command, run_folder
from services.retraining.errors import RetrainingError, without_gates
from services.retraining.publisher import TopicPublisher
from services.retraining.retrainer import Retrainer
from services.retraining.run_folder import REGISTERED, REQUEST, RunFolder
from services.retraining.steps import pipeline
from services.retraining.steps.definition import Step, run_step
from services.runtime import kafka_producers, times
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.settings import Settings
from streams.records import RetrainingRequested


def prepare(settings: Settings, request: RetrainingRequested) -> RunFolder:
    """Fill the run folder of a request with what the steps need; a folder that has a request keeps it.

    Nothing is published.

    Raises:
        RetrainingError: The model does not exist, or has no gates.
    """
    folder = DeclarationFolder(settings.models)
    run = run_folder.of_request(settings, request.model, request.request_id)
    if run.has(REQUEST):
        request = run.request
    _check(folder, request.model)
    with kafka_producers.connected(settings) as producer:
        publisher = TopicPublisher(settings, producer)
        begun = Retrainer(settings, folder, publisher, publisher.end_offsets).begin(request)
    assert isinstance(begun, RunFolder), "the model is declared and has gates"
    return begun


def _check(folder: DeclarationFolder, model: str) -> None:
    if model in folder.faults:
        raise RetrainingError(f"the model.yaml of {model} is invalid: {folder.faults[model]}")
    if model not in folder.valid:
        raise RetrainingError(f"there is no model {model!r}; declared models: {', '.join(folder.valid)}")
    if folder.valid[model].gates is None:
        raise RetrainingError(without_gates(model))


def request_of(model: str, request_id: str, reason: str) -> RetrainingRequested:
    """Return a request of now with this id, or with a new one if it is empty."""
    made = retrain_command.request_of(model, reason, times.now_ms())
    if not request_id:
        return made
    return RetrainingRequested(
        request_id=request_id,
        model=model,
        trigger=made.trigger,
        requested_at_ms=made.requested_at_ms,
        reason=reason,
    )


def run_one(step: Step, run: RunFolder, settings: Settings) -> bool:
    """Run a step unless it is done, alone in its folder; return whether it was run."""
    with pipeline.locked(run):
        return run_step(step, run, settings)


def submit(settings: Settings, run: RunFolder) -> RetrainingRequested:
    """Publish the request of a run that has a version: the service finds this version and releases it.

    A repeat changes nothing, because a request has one result.

    Raises:
        RetrainingError: The run has no version.
    """
    if not run.has(REGISTERED):
        names = ", ".join(step.name for step in pipeline.STEPS)
        raise RetrainingError(f"{run.path} has no version yet: run the steps first, in this order {names}")
    retrain_command.publish(settings, run.request)
    return run.request
