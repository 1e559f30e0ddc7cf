"""What a training chooses on rows before the held-out days: the parameters of the estimator."""

from typing import Any

import msgspec

from services.model_registry.training_code import MakeEstimator
from services.retraining import candidate, evaluation, search
from services.retraining.search import SearchBudget, SearchSpace
from services.retraining.training_set import TrainingSet
from services.runtime.declaration import ModelDeclaration

FOLDS = 3
"""Number of folds of a search: each more makes it longer, and the first one is trained on fewer rows."""


class FoundParameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a search of parameters has found."""

    parameters: dict[str, Any]
    """As ``set_params`` takes them; empty if no trial was better than the estimator as it is."""
    loss: float
    """Mean of the loss that the gates compare, over the folds."""
    default_loss: float
    """Of the estimator as it is."""
    trials: int


class TrainingChoices(msgspec.Struct, frozen=True, kw_only=True):
    """All choices; a training that is reproduced takes them over."""

    search: FoundParameters | None = None
    """None: ``retraining.search`` is not declared."""

    def applied(self, make: MakeEstimator) -> MakeEstimator:
        """Return a function that makes the estimator as it was chosen."""
        found = self.search
        if found is None or not found.parameters:
            return make
        return lambda categorical, numeric: make(categorical, numeric).set_params(**found.parameters)

    def named(self) -> dict[str, float | str]:
        """Return the choices by name, for the parameters of the run in MLflow."""
        if self.search is None:
            return {}
        found = self.search
        figures = {"trials": found.trials, "loss": found.loss, "default_loss": found.default_loss}
        return {f"search_{name}": value for name, value in figures.items()} | {
            f"searched.{name}": value for name, value in found.parameters.items()
        }


def choose(
    data: TrainingSet, declaration: ModelDeclaration, make: MakeEstimator, space: SearchSpace | None
) -> TrainingChoices:
    """Return the choices for rows that are all before the held-out days by a label horizon.

    Args:
        data: n rows in the order of their event time.
        declaration: The model's.
        make: ``estimator`` of training.py.
        space: ``search_space`` of training.py; None unless ``retraining.search`` is declared.

    Raises:
        RetrainingError: The rows are too few for the folds, or no trial has succeeded.
    """
    found = None if space is None else _search(data, declaration, make, space)
    return TrainingChoices(search=found)


def _search(
    data: TrainingSet, declaration: ModelDeclaration, make: MakeEstimator, space: SearchSpace
) -> FoundParameters:
    declared = declaration.retraining.search
    assert declared is not None, "without it nothing is searched"
    labels = data.labels
    folds = search.folds(data.event_times_ms, declaration.label.horizon_ms, FOLDS)
    for fold in folds:
        candidate.check_part(labels[fold.train], declaration, "training rows of a fold of retraining.search")
    found = search.search(
        lambda: make(data.text, data.numeric),
        space,
        candidate.estimator_inputs(data, candidate.filled(data, declaration)).features,
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
