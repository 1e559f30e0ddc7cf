"""The steps that make and judge a candidate: train, evaluate and gate."""

import dataclasses
import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from services.model_registry import loading, mlflow_client, model_card
from services.model_registry.contract import Contract, Model
from services.model_registry.sklearn_flavour.model import SklearnModel
from services.model_registry.training_code import function_of
from services.retraining import (
    call_sample,
    candidate,
    evaluation,
    evidence,
    gates,
    permutation_importance,
    training_choices,
    version_facts,
)
from services.retraining.candidate import Estimators
from services.retraining.errors import RetrainingError, in_training_code
from services.retraining.evaluation import Numbers
from services.retraining.evidence import Evaluation
from services.retraining.gates import CallSample, CardState, Evidence, GateResult, HeldOut
from services.retraining.run_folder import (
    CHOICES,
    CODE,
    CONTEXT,
    DATA,
    DATA_VERSION,
    DECLARATION,
    ESTIMATORS,
    EVALUATION,
    GATES,
    GIVEN_CHOICES,
    HELD_OUT,
    REQUEST,
    TRAINING_CODE,
    VALIDATION,
    RunFolder,
)
from services.retraining.steps import data_steps
from services.retraining.steps.data_steps import ValidationResult
from services.retraining.steps.definition import Step
from services.retraining.training_choices import TrainingChoices
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

_DATA = (DECLARATION, DATA, DATA_VERSION, VALIDATION)


def train(run: RunFolder, _settings: Settings) -> None:
    """Choose what is left to choose on rows before the held-out days, and fit the estimators."""
    import joblib

    data, declaration = data_steps.read(run), run.declaration
    parts = candidate.split(data, declaration)
    with in_training_code():
        make = function_of(run.path, CODE, "estimator")
        if run.has(GIVEN_CHOICES):
            chosen = run.read(GIVEN_CHOICES, TrainingChoices)
        else:
            space = function_of(run.path, CODE, "search_space") if declaration.retraining.search else None
            early, change_ms = data.take(parts.trained), run.request.train_from_ms
            chosen = training_choices.choose(early, declaration, make, space, change_ms)
        windowed = chosen.windowed(parts, data)
        fitted = candidate.fit(data, declaration, chosen.applied(make), windowed, chosen.method)
    rows = int(np.count_nonzero(candidate.released_rows(data, declaration, windowed)))
    run.write(CHOICES, msgspec.structs.replace(chosen, rows=rows))
    joblib.dump(tuple(fitted), run.begin(ESTIMATORS))
    run.finish(ESTIMATORS)


def estimators(run: RunFolder) -> Estimators:
    """Return what the step train has fitted. The file is of this machine; versions hold no pickles."""
    import joblib

    return Estimators(*joblib.load(run.path / ESTIMATORS))


def examples(run: RunFolder) -> "pd.DataFrame":
    """Return the held-out rows as inputs of the estimator, see `candidate.estimator_inputs`."""
    data, declaration = data_steps.read(run), run.declaration
    late = candidate.split(data, declaration).held_out
    return candidate.estimator_inputs(data, candidate.filled(data, declaration)).features[late]


def evaluate_candidate(run: RunFolder, settings: Settings) -> None:
    """Write the outputs of candidate and champion on the held-out rows, and their measures."""
    data, declaration = data_steps.read(run), run.declaration
    late = candidate.split(data, declaration).held_out
    outputs_of = functools.partial(candidate.outputs_of, declaration, estimators(run).candidate)
    features = examples(run)
    champion, version = champion_of(run, settings), run.context.champion
    rows = HeldOut(
        labels=data.labels[late],
        event_times_ms=data.event_times_ms[late],
        outputs=outputs_of(features),
        champion=None if champion is None else candidate.champion_outputs(champion, data, declaration, late),
    )
    evidence.write(run, rows)
    run.write(
        EVALUATION,
        Evaluation(
            metrics=evaluation.measures(declaration, rows.outputs, rows.labels),
            champion=None
            if rows.champion is None
            else evaluation.measures(declaration, rows.champion, rows.labels),
            champion_version=version,
            importances=permutation_importance.of_features(
                outputs_of, features, rows.labels, functools.partial(mean_loss, declaration)
            ),
            held_out_rows=len(rows.labels),
            outputs_sha256=evidence.digest_of(rows.outputs),
        ),
    )


def champion_of(run: RunFolder, settings: Settings) -> Model | None:
    """Return the version that served at the time of the request; None if none did."""
    context, declaration = run.context, run.declaration
    if context.champion is None:
        return None
    try:
        return loading.load(settings, declaration, context.given, context.champion)
    except mlflow_client.RegistryError as error:
        raise RetrainingError(
            f"the champion cannot be loaded for the comparison: {error}; or make another version the "
            "champion with 'driftline models champion'"
        ) from error


def mean_loss(declaration: ModelDeclaration, outputs: Numbers, labels: Numbers) -> float:
    """Return the mean of the loss that the gates compare."""
    return float(evaluation.compared_losses(declaration, outputs, labels).mean())


def gate(run: RunFolder, settings: Settings) -> None:
    """Judge the candidate. Without a champion the floors alone decide."""
    declaration = run.declaration
    if declaration.gates is None:
        raise RetrainingError(f"{declaration.name}: its model.yaml has no section gates; add one")
    calls = _calls(run, settings) if declaration.gates.latency else (None, None)
    found = Evidence(
        held_out=held_out(run),
        leaks=run.read(VALIDATION, ValidationResult).leaks,
        calls=calls[0],
        champion_calls=calls[1],
    )
    run.write(GATES, gates.judge(declaration, found, functools.partial(describe_card, run)))


def describe_card(run: RunFolder, results: Sequence[GateResult]) -> CardState:
    """Return what the candidate's card lacks; nothing in it is stale, because it is made of this run."""
    made = version_facts.card(run, estimators(run).candidate, results, now_ms=0)
    return CardState(missing=model_card.missing_sections(made))


def held_out(run: RunFolder) -> HeldOut:
    """Return the held-out rows with the features by which gates group them."""
    data, declaration = data_steps.read(run), run.declaration
    rows = candidate.split(data, declaration).held_out
    fairness = declaration.gates.fairness if declaration.gates else None
    names = {*declaration.monitoring.segments, *(fairness.groups if fairness else ())}
    columns = {name: data.features[name].to_numpy()[rows] for name in sorted(names) if name in data.features}
    return dataclasses.replace(evidence.read(run), columns=columns)


def _calls(run: RunFolder, settings: Settings) -> tuple[CallSample, CallSample | None]:
    """Time calls of the estimator that would be released, and of the champion, on the held-out rows."""
    import joblib

    data, declaration = data_steps.read(run), run.declaration
    rows = candidate.split(data, declaration).held_out
    served = {name: column[rows] for name, column in candidate.filled(data, declaration).items()}
    released, buffer = estimators(run).released, io.BytesIO()
    joblib.dump(released, buffer)
    contract = Contract(settings, declaration, run.context.given)
    model = SklearnModel(released, contract, len(buffer.getvalue()))
    return call_sample.measure(model, champion_of(run, settings), served)


TRAIN = Step("train", (REQUEST, *_DATA, TRAINING_CODE), (ESTIMATORS, CHOICES), train, (GIVEN_CHOICES,))
EVALUATE = Step("evaluate", (CONTEXT, *_DATA, ESTIMATORS), (HELD_OUT, EVALUATION), evaluate_candidate)
GATE = Step(
    "gate",
    (CONTEXT, *_DATA, TRAINING_CODE, ESTIMATORS, CHOICES, HELD_OUT, EVALUATION),
    (GATES,),
    gate,
)
