"""Training of a candidate, and its outputs on the held-out days beside those of the champion."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from services.feature_store.missing_values import MissingPolicy
from services.model_registry import input_format, model_inputs
from services.model_registry.contract import Model, class_order
from services.model_registry.input_format import InputFormat
from services.model_registry.model_inputs import Columns, InputKind
from services.model_registry.training_code import MakeEstimator
from services.retraining.errors import InvalidDataError, RetrainingError
from services.retraining.evaluation import held_out
from services.retraining.training_set import TrainingSet
from services.runtime.declaration import DAY_MS, ModelDeclaration

if TYPE_CHECKING:
    import pandas as pd

Mask = npt.NDArray[np.bool_]
Outputs = npt.NDArray[np.float64]
"""(n,) or (n, n_classes), see `services.model_registry.contract.Model`."""


class Split(NamedTuple):
    """Which rows (n,) a candidate is trained on, and which it is evaluated on."""

    trained: Mask
    held_out: Mask
    """The latest days. The rows of one label horizon before them are in neither: their labels became known
    on the held-out days."""


class Estimators(NamedTuple):
    """What a training has fitted."""

    candidate: Any
    """Fitted on `Split.trained`; its outputs on the held-out rows are measured."""
    refitted: Any | None
    """Fitted on all rows, to replace it if it passes; None unless ``retraining.refit`` is declared."""

    @property
    def released(self) -> Any:
        """The estimator that becomes the version."""
        return self.candidate if self.refitted is None else self.refitted


def split(data: TrainingSet, declaration: ModelDeclaration) -> Split:
    """Return the split by time; raise `InvalidDataError` if a part of it cannot be used."""
    times_ms = data.event_times_ms
    late = held_out(times_ms, round(declaration.retraining.holdout_days * DAY_MS))
    begins_ms = int(times_ms[late].min()) if late.any() else 0
    early = ~late & (times_ms + declaration.label.horizon_ms <= begins_ms)
    for rows, what in ((early, "before the held-out days and one label horizon"), (late, "held-out days")):
        check_part(data.labels[rows], declaration, what)
    return Split(early, late)


def check_part(labels: npt.NDArray[np.float64], declaration: ModelDeclaration, what: str) -> None:
    """Raise `InvalidDataError` unless the labels (n,) of a part have all classes, or any values."""
    if declaration.task == "regression":
        fault = None if len(labels) else "there are no rows"
    elif declaration.task == "binary":
        positives = np.count_nonzero(labels)
        fault = f"there are {len(labels)} rows, {positives} of them positive, but both classes are needed"
        fault = None if 0 < positives < len(labels) else fault
    else:
        absent = set(range(len(declaration.classes))) - set(labels.astype(int).tolist())
        names = ", ".join(declaration.classes[number] for number in sorted(absent))
        fault = f"{len(labels)} rows have no label {names}, but all classes are needed" if absent else None
    if fault:
        raise InvalidDataError(f"{what}: {fault} there: change retraining.holdout_days, or wait for labels")


def fit(data: TrainingSet, declaration: ModelDeclaration, make: MakeEstimator, parts: Split) -> Estimators:
    """Fit the candidate and, on another core, the estimator on all rows that replaces it if it passes.

    Each fit has one thread (see `services.retraining.process.run`): two fits at once take as long as one,
    while two threads in one fit mostly wait for each other.
    """
    inputs, labels = estimator_inputs(data, filled(data, declaration)), data.labels

    def fitted(rows: Mask) -> Any:
        return fit_rows(make(data.text, data.numeric), declaration, inputs.features[rows], labels[rows])

    with ThreadPoolExecutor(max_workers=2) as cores:
        first = cores.submit(fitted, parts.trained)
        everything = np.ones(len(labels), dtype=np.bool_)
        second = cores.submit(fitted, everything) if declaration.retraining.refit else None
        return Estimators(first.result(), second.result() if second else None)


def fit_rows(
    estimator: Any, declaration: ModelDeclaration, features: "pd.DataFrame", labels: npt.NDArray[np.float64]
) -> Any:
    """Fit an estimator on rows (n,), with the weights that are declared, and return it."""
    target = target_of(declaration, labels)
    return estimator.fit(features, target, **_weights(estimator, declaration, target))


def _weights(estimator: Any, declaration: ModelDeclaration, target: npt.NDArray[Any]) -> dict[str, Any]:
    """Return the weights of rows (n,) that ``retraining.class_weight`` wants, as an argument of ``fit``."""
    if declaration.retraining.class_weight == "none":
        return {}
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.validation import has_fit_parameter

    steps = getattr(estimator, "steps", None)
    last = steps[-1][1] if steps else estimator
    if not has_fit_parameter(last, "sample_weight"):
        raise RetrainingError(
            f"retraining.class_weight: {type(last).__name__} takes no weights of rows: remove the setting, "
            "or use another estimator"
        )
    name = f"{steps[-1][0]}__sample_weight" if steps else "sample_weight"
    return {name: compute_sample_weight("balanced", target)}


def target_of(declaration: ModelDeclaration, labels: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return the labels (n,) as an estimator is fitted with them: 0 or 1, names of classes, or numbers."""
    if declaration.task == "regression":
        return labels
    if declaration.task == "binary":
        return labels.astype(np.int8)
    found: npt.NDArray[Any] = np.array(declaration.classes)[labels.astype(np.intp)]
    return found


def outputs_of(declaration: ModelDeclaration, estimator: Any, features: "pd.DataFrame") -> Outputs:
    """Return the outputs of an estimator for n rows."""
    if declaration.task == "regression":
        return np.asarray(estimator.predict(features), dtype=np.float64)
    probabilities = np.asarray(estimator.predict_proba(features), dtype=np.float64)
    order = class_order(declaration, np.asarray(estimator.classes_).tolist())
    return probabilities[:, 1] if declaration.task == "binary" else probabilities[:, order]


def champion_outputs(
    champion: Model, data: TrainingSet, declaration: ModelDeclaration, rows: Mask
) -> Outputs:
    """Return the outputs of a served version for some of the rows."""
    served = filled(data, declaration)
    return champion.predict({name: column[rows] for name, column in served.items()})


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
