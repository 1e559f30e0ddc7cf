"""The steps that make a version of a candidate: card and register."""

import msgspec

from services.model_registry import mlflow_client, model_card_store
from services.monitoring import reference
from services.retraining import candidate, evidence, mlflow_run, plots, version_facts
from services.retraining.evidence import Evaluation
from services.retraining.gates import GateReport
from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.run_folder import (
    CHOICES,
    CONTEXT,
    DATA,
    DATA_VERSION,
    DECLARATION,
    ESTIMATORS,
    EVALUATION,
    GATES,
    HELD_OUT,
    MODEL_CARD,
    MODEL_CARD_MARKDOWN,
    MODEL_CARD_PAGE,
    PLOTS,
    REFERENCE,
    REGISTERED,
    REQUEST,
    TRAINING_CODE,
    VALIDATION,
    RunFolder,
)
from services.retraining.steps import data_steps, model_steps
from services.retraining.steps.definition import Step
from services.retraining.training_choices import TrainingChoices
from services.runtime import times
from services.runtime.settings import Settings


def card(run: RunFolder, _settings: Settings) -> None:
    """Write what describes the version: its card, its plots, and the reference with which drift compares."""
    data, declaration, rows = data_steps.read(run), run.declaration, evidence.read(run)
    features = data.features.drop(columns=list(data.times))
    times_ms = data.event_times_ms
    parts = run.read(CHOICES, TrainingChoices).windowed(candidate.split(data, declaration), data)
    trained = candidate.released_rows(data, declaration, parts)
    features, times_ms = features[trained], times_ms[trained]
    columns = {
        str(name): features[name].to_numpy(dtype=object if name in data.text else float)
        for name in features.columns
    }
    importances = run.read(EVALUATION, Evaluation).importances
    known = reference.KnownOutputs(rows.outputs, rows.labels, rows.event_times_ms)
    run.write(
        REFERENCE,
        reference.build(0, reference.KnownRows(columns, times_ms), known, declaration, importances),
    )
    folder = run.path / PLOTS
    folder.mkdir(exist_ok=True)
    plots.save_all(declaration, model_steps.held_out(run), importances, folder)
    _write_card(run)


def _write_card(run: RunFolder) -> None:
    """Write the card that the step gate has judged, with what the gate of the card found."""
    estimator, report = model_steps.estimators(run).candidate, run.read(GATES, GateReport)
    made = version_facts.card(run, estimator, report.results, now_ms=times.now_ms())
    for name, content in model_card_store.files(made).items():
        run.write_bytes(f"{model_card_store.FOLDER}/{name}", content)


def register(run: RunFolder, settings: Settings) -> None:
    """Register the candidate as a signed version, once for each request, with the result of its gates."""
    client = mlflow_client.connect(settings)
    tags = mlflow_run.tags_of(run)  # first: what is restored takes the place of the candidate's data set
    found = mlflow_run.restore(client, run)
    if found is None:
        with mlflow_run.RetrainingRun(client, settings, run.request) as mlflow:
            found = mlflow_run.register(mlflow, run)
    else:
        differs = mlflow_run.differences(client, found.run_id, tags)
        found = msgspec.structs.replace(found, differs=differs)
    run.write(REGISTERED, found)


def kept_text(run: RunFolder) -> str:
    """Return what to do about a candidate that was not registered, as its request has another; or nothing."""
    registered = run.read(REGISTERED, RegisteredCandidate)
    if not registered.differs:
        return ""
    model = run.request.model
    return (
        f"this candidate was not registered: its request has {model} version {registered.version} already, "
        f"which is kept; they differ in {' and '.join(registered.differs)}. To register it, make a new "
        f"request: 'driftline retraining prepare {model}'"
    )


def announce(run: RunFolder, settings: Settings) -> RegisteredCandidate:
    """Move the alias that a registered candidate gets, and return it; a repeat changes nothing.

    A run that a kill has left open in MLflow is ended.

    A candidate that is rejected, or that a rollout will lead, is the challenger.
    """
    registered, declaration = run.read(REGISTERED, RegisteredCandidate), run.declaration
    is_champion = not registered.reasons and not declaration.rollout.steps
    move = mlflow_run.promote if is_champion else mlflow_run.make_challenger
    client = mlflow_client.connect(settings)
    mlflow_run.end_open_runs(client, run.request, registered.run_id)
    move(client, declaration, registered.version)
    return registered


_ALL = (REQUEST, CONTEXT, DECLARATION, DATA_VERSION, VALIDATION, ESTIMATORS)
_RESULTS = (CHOICES, EVALUATION, GATES, REFERENCE, MODEL_CARD)
CARD = Step(
    "card",
    (*_ALL, DATA, TRAINING_CODE, CHOICES, HELD_OUT, EVALUATION, GATES),
    (REFERENCE, MODEL_CARD, MODEL_CARD_MARKDOWN, MODEL_CARD_PAGE),
    card,
)
REGISTER = Step("register", (*_ALL, *_RESULTS, DATA), (REGISTERED,), register)
