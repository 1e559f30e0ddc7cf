"""Training of a candidate, and its outputs on the held-out days beside those of the champion."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from services.feature_store.missing_values import MissingPolicy
from services.model_registry import input_format, model_inputs
from services.model_registry.contract import Model, class_order
from services.model_registry.input_format import InputFormat
from services.model_registry.model_inputs import Columns, InputKind
from services.model_registry.training_code import MakeEstimator
from services.retraining import calibration, search
from services.retraining.calibration import Method
from services.retraining.errors import InvalidDataError, RetrainingError
from services.retraining.evaluation import held_out
from services.retraining.training_set import TrainingSet
from services.runtime.declaration import DAY_MS, ModelDeclaration

if TYPE_CHECKING:
    import pandas as pd

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
"""Numbers of rows (n,)."""
Outputs = npt.NDArray[np.float64]
"""(n,) or (n, n_classes), see `services.model_registry.contract.Model`."""


class Split(NamedTuple):
    """Which rows (n,) a candidate is trained on, and which it is evaluated on."""

    trained: Mask
    held_out: Mask
    """The latest days. The rows of one label horizon before them are in neither: their labels became known
    on the held-out days."""

    def since(self, times_ms: npt.NDArray[np.int64], from_ms: int) -> "Split":
        """Return the split without the training rows before an event time."""
        return Split(self.trained & (times_ms >= from_ms), self.held_out)


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
    days_ms = round(declaration.retraining.holdout_days * DAY_MS)
    parts = split_times(data.event_times_ms, declaration.label.horizon_ms, days_ms)
    check_part(data.labels[parts.trained], declaration, "before the held-out days and one label horizon")
    check_part(data.labels[parts.held_out], declaration, "held-out days")
    return parts


def split_times(times_ms: npt.NDArray[np.int64], horizon_ms: int, days_ms: int) -> Split:
    """Return the split of event times (n,) into the latest ``days_ms`` and those a horizon before them."""
    late = held_out(times_ms, days_ms)
    begins_ms = int(times_ms[late].min()) if late.any() else 0
    return Split(~late & (times_ms + horizon_ms <= begins_ms), late)


def check_part(labels: npt.NDArray[np.float64], declaration: ModelDeclaration, what: str) -> None:
    """Raise `InvalidDataError` unless the labels (n,) of a part have all classes, or any values."""
    if fault := part_fault(labels, declaration):
        raise InvalidDataError(f"{what}: {fault} there: change retraining.holdout_days, or wait for labels")


def part_fault(labels: npt.NDArray[np.float64], declaration: ModelDeclaration) -> str | None:
    """Return why the labels (n,) of a part cannot be used; None if they have all classes, or any values."""
    if declaration.task == "regression":
        return None if len(labels) else "there are no rows"
    if declaration.task == "binary":
        positives = np.count_nonzero(labels)
        fault = f"there are {len(labels)} rows, {positives} of them positive, but both classes are needed"
        return None if 0 < positives < len(labels) else fault
    absent = set(range(len(declaration.classes))) - set(labels.astype(int).tolist())
    names = ", ".join(declaration.classes[number] for number in sorted(absent))
    return f"{len(labels)} rows have no label {names}, but all classes are needed" if absent else None


def fit(
    data: TrainingSet,
    declaration: ModelDeclaration,
    make: MakeEstimator,
    parts: Split,
    method: Method = "none",
) -> Estimators:
    """Fit the candidate and, on another core, the estimator on all rows that replaces it if it passes.

    Both have the chosen calibration, so what is measured is what is released. All rows are those from the
    first training row on.

    Each fit has one thread (see `services.retraining.process.run`): two fits at once take as long as one,
    while two threads in one fit mostly wait for each other.
    """
    fitting = Fitting.of(data, declaration, make)

    def calibrated(rows: Mask) -> Any:
        wanted = () if method == "none" else (method,)
        return fitting.by_method(np.flatnonzero(rows), wanted)[method]

    with ThreadPoolExecutor(max_workers=2) as cores:
        first = cores.submit(calibrated, parts.trained)
        released = released_rows(data, declaration, parts)
        second = cores.submit(calibrated, released) if declaration.retraining.refit else None
        return Estimators(first.result(), second.result() if second else None)


def released_rows(data: TrainingSet, declaration: ModelDeclaration, parts: Split) -> Mask:
    """Return which rows (n,) the version is trained on: with ``retraining.refit`` the later ones as well."""
    if not declaration.retraining.refit:
        return parts.trained
    times_ms = data.event_times_ms
    return np.asarray(times_ms >= times_ms[parts.trained].min())


@dataclasses.dataclass(frozen=True)
class Fitting:
    """The rows of a training, in the order of time, and how an estimator is fitted on some of them."""

    data: TrainingSet
    declaration: ModelDeclaration
    make: MakeEstimator
    features: "pd.DataFrame"
    """(n, n_features), see `estimator_inputs`."""

    @classmethod
    def of(cls, data: TrainingSet, declaration: ModelDeclaration, make: MakeEstimator) -> Self:
        """Return the fitting of a training set with ``estimator`` of training.py."""
        features = estimator_inputs(data, filled(data, declaration)).features
        return cls(data, declaration, make, features)

    def fitted(self, rows: Rows) -> Any:
        """Return an estimator that was fitted on some rows."""
        estimator = self.make(self.data.text, self.data.numeric)
        return fit_rows(estimator, self.declaration, self.features.iloc[rows], self.data.labels[rows])

    def outputs(self, estimator: Any, rows: Rows) -> Outputs:
        """Return the outputs of an estimator for some rows."""
        return outputs_of(self.declaration, estimator, self.features.iloc[rows])

    def by_method(self, rows: Rows, methods: Sequence[Method]) -> dict[Method, Any]:
        """Return a classifier that was fitted on some rows, unchanged and with each calibration.

        A calibration is fitted on the last quarter of the rows with another classifier, of those before it by
        a label horizon. Raises `RetrainingError` if the rows are too few, or have not all classes.
        """
        found: dict[Method, Any] = {"none": self.fitted(rows)}
        if methods:
            earlier, later = self.calibration_parts(rows)
            target = target_of(self.declaration, self.data.labels[later])
            fitted, features = self.fitted(earlier), self.features.iloc[later]
        for method in methods:
            made = calibration.calibrated(fitted, method, features, target)
            found[method] = calibration.replace_estimator(made, found["none"])
        return found

    def calibration_parts(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return the rows of the other classifier, and those of a calibration."""
        times_ms = self.data.event_times_ms[rows]
        last = search.folds(times_ms, self.declaration.label.horizon_ms, search.FOLDS)[-1]
        parts = rows[last.train], rows[last.test]
        for part, what in zip(parts, ("rows before those of", "rows of"), strict=True):
            check_part(self.data.labels[part], self.declaration, f"{what} retraining.calibration")
        return parts


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
