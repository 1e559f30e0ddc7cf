"""What a training chooses on rows before the held-out days: window, parameters and calibration."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from services.model_registry.training_code import MakeEstimator
from services.monitoring.model_metrics import COST
from services.retraining import calibration, candidate, evaluation, search, training_window
from services.retraining.calibration import CalibrationChoice, Method
from services.retraining.candidate import Fitting, Split
from services.retraining.errors import RetrainingError
from services.retraining.evaluation import Numbers
from services.retraining.search import Fold, SearchBudget, SearchSpace
from services.retraining.training_set import TrainingSet
from services.retraining.training_window import WindowChoice
from services.runtime.declaration import DAY_MS, LOSSES, ModelDeclaration

if TYPE_CHECKING:
    import pandas as pd


CALIBRATION_FOLDS = 2
"""Number of folds of a calibration: together, their tests are the later two thirds of the rows."""


class FoundParameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a search of parameters has found."""

    parameters: dict[str, Any]
    """Arguments of ``set_params``; empty if no trial was better than the unchanged estimator."""
    loss: float
    """Mean of the loss that the gates compare, over the folds."""
    default_loss: float
    """The loss of the unchanged estimator."""
    trials: int


class TrainingChoices(msgspec.Struct, frozen=True, kw_only=True):
    """All choices; a training that is reproduced takes them over."""

    window: WindowChoice | None = None
    """None: ``retraining.window`` is not ``auto``."""
    search: FoundParameters | None = None
    """None: ``retraining.search`` is not declared."""
    calibration: CalibrationChoice | None = None
    """None: ``retraining.calibration`` is not ``auto``."""
    rows: int = 0
    """Number of rows that the version is trained on; the step train writes it."""

    @property
    def method(self) -> Method:
        """The chosen calibration."""
        return "none" if self.calibration is None else self.calibration.method

    def windowed(self, parts: Split, data: TrainingSet) -> Split:
        """Return the split of the rows without those before the chosen window."""
        return parts if self.window is None else parts.since(data.event_times_ms, self.window.from_ms)

    def applied(self, make: MakeEstimator) -> MakeEstimator:
        """Return a function that makes the estimator as it was chosen."""
        found = self.search
        if found is None or not found.parameters:
            return make
        return lambda categorical, numeric: make(categorical, numeric).set_params(**found.parameters)

    def named(self) -> dict[str, float | str]:
        """Return the choices by name, for the parameters of the run in MLflow."""
        return _of_window(self.window) | _of_search(self.search) | _of_calibration(self.calibration)


def _of_window(found: WindowChoice | None) -> dict[str, float | str]:
    if found is None:
        return {}
    differences = {f"window_difference.{name}": value for name, value in found.differences.items()}
    return {"window": found.name, "window_from_ms": found.from_ms, **differences}


def _of_search(found: FoundParameters | None) -> dict[str, float | str]:
    if found is None:
        return {}
    figures = {"trials": found.trials, "loss": found.loss, "default_loss": found.default_loss}
    return {f"search_{name}": value for name, value in figures.items()} | {
        f"searched.{name}": value for name, value in found.parameters.items()
    }


def _of_calibration(found: CalibrationChoice | None) -> dict[str, float | str]:
    if found is None:
        return {}
    differences = {f"calibration_difference.{name}": value for name, value in found.differences.items()}
    return {"calibration": found.method, **differences}


def choose(
    data: TrainingSet,
    declaration: ModelDeclaration,
    make: MakeEstimator,
    space: SearchSpace | None,
    change_ms: int | None = None,
) -> TrainingChoices:
    """Return the choices for rows that are all before the held-out days by a label horizon.

    The window is chosen first, then parameters on its rows, then the calibration of the estimator with them.

    Args:
        data: n rows in the order of their event time.
        declaration: The model's.
        make: ``estimator`` of training.py.
        space: ``search_space`` of training.py; None unless ``retraining.search`` is declared.
        change_ms: When the change began that the request names; None: it names none.

    Raises:
        RetrainingError: The rows are too few for the folds of a search, or no trial has succeeded.
    """
    retraining, window = declaration.retraining, None
    if retraining.window == "auto":
        window = _window(data, declaration, make, change_ms)
        data = data.take(data.event_times_ms >= window.from_ms)
    found = None if space is None else _search(data, declaration, make, space)
    chosen = TrainingChoices(window=window, search=found)
    if retraining.calibration == "none":
        return chosen
    method = _calibration(data, declaration, chosen.applied(make))
    return msgspec.structs.replace(chosen, calibration=method)


def _features(data: TrainingSet, declaration: ModelDeclaration) -> "pd.DataFrame":
    return candidate.estimator_inputs(data, candidate.filled(data, declaration)).features


def _block_ms(declaration: ModelDeclaration) -> int:
    return declaration.gates.block_ms if declaration.gates else DAY_MS


def _window(
    data: TrainingSet, declaration: ModelDeclaration, make: MakeEstimator, change_ms: int | None
) -> WindowChoice:
    """Return the window that is best on the last days of the rows; all rows if they are too few for it."""
    retraining, block_ms = declaration.retraining, _block_ms(declaration)
    times_ms, labels = data.event_times_ms, data.labels
    later_ms = training_window.LATER_BLOCKS * block_ms
    parts = candidate.split_times(times_ms, declaration.label.horizon_ms, later_ms)
    everything = WindowChoice(training_window.ALL, int(times_ms[0]), {})
    if candidate.part_fault(labels[parts.trained], declaration):
        return everything
    recent_ms = None if retraining.recent_days is None else round(retraining.recent_days * DAY_MS)
    begins = training_window.windows(times_ms[parts.trained], recent_ms, change_ms, retraining.minimum_labels)
    begins = {
        name: from_ms
        for name, from_ms in begins.items()
        if not candidate.part_fault(labels[parts.since(times_ms, from_ms).trained], declaration)
    }
    return training_window.choose(
        lambda features, known: candidate.fit_rows(
            make(data.text, data.numeric), declaration, features, known
        ),
        _features(data, declaration),
        labels,
        times_ms,
        parts,
        begins,
        functools.partial(candidate.outputs_of, declaration),
        functools.partial(evaluation.compared_losses, declaration),
        block_ms,
    )


def _calibration(data: TrainingSet, declaration: ModelDeclaration, make: MakeEstimator) -> CalibrationChoice:
    """Return the calibration that helps on time-ordered folds; none if the rows are too few for them.

    In each fold a classifier is fitted and calibrated as the candidate is.
    """
    fitting = candidate.Fitting.of(data, declaration, make)
    try:
        folds = search.folds(data.event_times_ms, declaration.label.horizon_ms, CALIBRATION_FOLDS)
        methods = calibration.methods(min(len(fitting.calibration_parts(fold.train)[1]) for fold in folds))
        losses = [_fold_losses(fitting, fold, methods) for fold in folds]
    except RetrainingError:
        return CalibrationChoice("none", {})
    together = {method: np.concatenate([each[method] for each in losses]) for method in losses[0]}
    times_ms = data.event_times_ms[np.concatenate([fold.test for fold in folds])]
    return calibration.choose(together, times_ms, _block_ms(declaration))


def _fold_losses(fitting: Fitting, fold: Fold, methods: Sequence[Method]) -> dict[Method, Numbers]:
    """Return the loss of each test row by method."""
    declaration, labels = fitting.declaration, fitting.data.labels[fold.test]
    name = _probability_loss(declaration)
    return {
        method: evaluation.losses(declaration, fitting.outputs(estimator, fold.test), labels)[name]
        for method, estimator in fitting.by_method(fold.train, methods).items()
    }


def _probability_loss(declaration: ModelDeclaration) -> str:
    """Return the loss that the gates compare, or the log loss if they compare costs."""
    default = LOSSES[declaration.task][0]
    metric = declaration.gates.metric_of(declaration.task) if declaration.gates else default
    return default if metric == COST else metric


def _search(
    data: TrainingSet, declaration: ModelDeclaration, make: MakeEstimator, space: SearchSpace
) -> FoundParameters:
    declared = declaration.retraining.search
    assert declared is not None, "without it nothing is searched"
    labels = data.labels
    folds = search.folds(data.event_times_ms, declaration.label.horizon_ms, search.FOLDS)
    for fold in folds:
        candidate.check_part(labels[fold.train], declaration, "training rows of a fold of retraining.search")
    found = search.search(
        lambda: make(data.text, data.numeric),
        space,
        _features(data, declaration),
        labels,
        folds,
        lambda estimator, features: candidate.outputs_of(declaration, estimator, features),
        lambda outputs, known: float(evaluation.compared_losses(declaration, outputs, known).mean()),
        SearchBudget(declared.trials, declared.minutes * 60),
        fit=lambda estimator, features, known: candidate.fit_rows(estimator, declaration, features, known),
    )
    return FoundParameters(
        parameters=dict(found.parameters),
        loss=found.loss,
        default_loss=found.default_loss,
        trials=len(found.trials),
    )
