"""Training of a candidate, and its comparison with the champion on the held-out days."""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from services.feature_store.missing_values import MissingPolicy
from services.model_registry import input_format, model_inputs
from services.model_registry.contract import Model
from services.model_registry.input_format import InputFormat
from services.model_registry.model_inputs import Columns, InputKind
from services.model_registry.training_code import MakeEstimator
from services.retraining import permutation_importance
from services.retraining.dataset import TrainingSet
from services.retraining.errors import InvalidDataError
from services.retraining.evaluation import ClassifierMetrics, evaluate, held_out
from services.runtime.declaration import DAY_MS, ModelDeclaration

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A trained model with its metrics on the held-out rows."""

    estimator: Any
    trained_on: "pd.DataFrame"
    """The numbers and texts, as served, of the rows that the estimator was trained on. Drift compares with
    them; a time only passes."""
    examples: "pd.DataFrame"
    """The held-out rows as inputs of the estimator, see `estimator_inputs`."""
    metrics: ClassifierMetrics
    champion: ClassifierMetrics | None
    """The champion's metrics on the same rows; None without a champion."""
    held_out_labels: npt.NDArray[np.int8]
    held_out_scores: npt.NDArray[np.float64]
    importances: dict[str, float]
    """Importance by feature, see `permutation_importance.of_features`."""


def train(
    data: TrainingSet, declaration: ModelDeclaration, make: MakeEstimator, champion: Model | None
) -> Candidate:
    """Train on all rows but the held-out days; evaluate candidate and champion on those.

    With ``retraining.refit`` the returned estimator is trained again on all rows. Its metrics are those of
    the first estimator, which was not trained on the held-out rows.
    """
    served = filled(data, declaration)
    late = held_out(data.event_times_ms, round(declaration.retraining.holdout_days * DAY_MS))
    labels = data.labels
    _check_split(labels, late)
    inputs = estimator_inputs(data, served)
    estimator, refitted = _fit_both(inputs, labels, late, make, refit=declaration.retraining.refit)
    late_rows = inputs.features[late]
    scores = scores_of(estimator, late_rows)
    champion_metrics = None
    if champion is not None:
        champion_scores = champion.predict({name: column[late] for name, column in served.items()})
        champion_metrics = evaluate(labels[late], champion_scores)
    monitored = data.features.drop(columns=list(data.times))
    return Candidate(
        estimator=refitted or estimator,
        trained_on=monitored if refitted else monitored[~late],
        examples=late_rows,
        metrics=evaluate(labels[late], scores),
        champion=champion_metrics,
        held_out_labels=labels[late],
        held_out_scores=scores,
        importances=permutation_importance.of_features(
            functools.partial(scores_of, estimator), late_rows, labels[late]
        ),
    )


def filled(data: TrainingSet, declaration: ModelDeclaration) -> Columns:
    """Return the features (n,) by name as they are served to a model: with the declared values if missing."""
    names = list(data.features.columns)
    policy = MissingPolicy(declaration.features.missing, names)
    return policy.fill({name: data.features[name].to_numpy() for name in names})


def estimator_inputs(data: TrainingSet, served: Columns) -> TrainingSet:
    """Return the rows with their features as an estimator gets them: a time is datetime64[ns] in UTC.

    Raises `InputsError` for a time that this type cannot hold, before 1678 or after 2262.
    """
    convert = InputFormat(input_format.as_served(dict.fromkeys(data.times, InputKind.TIME)))
    columns = {**served, **convert.columns({name: served[name] for name in data.times})}
    return dataclasses.replace(data, features=model_inputs.frame(columns, list(data.features.columns)))


def _fit_both(
    data: TrainingSet,
    labels: npt.NDArray[np.int8],
    late: npt.NDArray[np.bool_],
    make: MakeEstimator,
    *,
    refit: bool,
) -> tuple[Any, Any | None]:
    """Fit the candidate and, on another core, the estimator on all rows that replaces it if it passes.

    Each fit has one thread (see `services.retraining.process.run`): two fits at once take as long as one,
    while two threads in one fit mostly wait for each other.
    """
    with ThreadPoolExecutor(max_workers=2) as cores:
        first = cores.submit(make(data.text, data.numeric).fit, data.features[~late], labels[~late])
        second = cores.submit(make(data.text, data.numeric).fit, data.features, labels) if refit else None
        return first.result(), second.result() if second else None


def scores_of(estimator: Any, features: "pd.DataFrame") -> npt.NDArray[np.float64]:
    """Return the probability of label 1 for each row, (n,)."""
    return np.asarray(estimator.predict_proba(features)[:, 1], dtype=np.float64)


def _check_split(labels: npt.NDArray[np.int8], late: npt.NDArray[np.bool_]) -> None:
    for rows, what in ((labels[~late], "before the held-out days"), (labels[late], "on the held-out days")):
        if not 0 < np.count_nonzero(rows) < len(rows):
            raise InvalidDataError(
                f"there are {len(rows)} rows {what}, {np.count_nonzero(rows)} of them positive, but both "
                "classes are needed there: change retraining.holdout_days"
            )
