"""A search of parameters on time-ordered folds, with Optuna.

``training.py`` of a model may define ``search_space(trial)``, which returns parameters of its estimator::

    def search_space(trial):
        return {"trees__learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True)}
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from services.retraining.errors import RetrainingError
from services.retraining.evaluation import Numbers, Predict

if TYPE_CHECKING:
    import pandas as pd

SearchSpace = Callable[[Any], Mapping[str, Any]]
"""Returns parameters, as ``set_params`` of the estimator takes them, for an Optuna trial."""
Fit = Callable[[Any, "pd.DataFrame", Numbers], Any]
"""Returns an estimator that was fitted on features and labels."""
Loss = Callable[[Numbers, Numbers], float]
"""Returns the mean loss for outputs and labels."""
SEED = 0
FOLDS = 3
"""Number of folds: each more makes a training longer, and the first one is trained on fewer rows."""


@dataclasses.dataclass(frozen=True)
class SearchBudget:
    """What a search may take; it ends with the trial that reaches either limit."""

    trials: int
    seconds: float | None = None
    """None: the trials alone limit it. Only such a search can be repeated exactly on another machine: to
    reproduce one, give the number of trials that it made."""


@dataclasses.dataclass(frozen=True)
class Fold:
    """Rows to train on, and later rows to evaluate on; indices."""

    train: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One set of parameters with its mean loss over the folds."""

    parameters: Mapping[str, Any]
    loss: float


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found."""

    parameters: Mapping[str, Any]
    """The best ones; empty if no trial was better than the unchanged estimator."""
    loss: float
    default_loss: float
    """The loss of the unchanged estimator."""
    trials: Sequence[Trial]
    """All that were made, in order; those that failed have the loss inf."""


def folds(event_times_ms: npt.NDArray[np.int64], horizon_ms: int, count: int) -> list[Fold]:
    """Return folds in the order of time; the training rows of a later one contain those before.

    A training row is at least the label's horizon before the first test row: at that time its label was
    known. The times are cut into ``count + 1`` parts with equal numbers of rows.

    Args:
        event_times_ms: (n,) in rising order.
        horizon_ms: ``label.horizon_hours``.
        count: Number of folds.

    Raises:
        RetrainingError: A fold would have no rows to train on.
    """
    starts = [round(len(event_times_ms) * part / (count + 1)) for part in range(1, count + 2)]
    found = []
    for start, stop in itertools.pairwise(starts):
        begins_ms = event_times_ms[start] if start < stop else 0
        train = np.flatnonzero(event_times_ms <= begins_ms - horizon_ms)
        if start >= stop or not len(train):
            raise RetrainingError(
                f"{len(event_times_ms)} rows are too few for {count} folds with a label horizon of "
                f"{horizon_ms / 3_600_000:g} hours between training and test: use fewer folds"
            )
        found.append(Fold(train, np.arange(start, stop)))
    return found


def search(
    make: Callable[[], Any],
    space: SearchSpace,
    features: "pd.DataFrame",
    labels: Numbers,
    folds: Sequence[Fold],
    predict: Predict,
    loss: Loss,
    budget: SearchBudget,
    seed: int = SEED,
    fit: Fit = lambda estimator, features, labels: estimator.fit(features, labels),
) -> SearchResult:
    """Return the parameters with the lowest mean loss over the folds.

    Args:
        make: Returns an unfitted estimator.
        space: Of training.py.
        features: (n, n_features) Rows before the held-out days of the gates.
        labels: (n,)
        folds: See `folds`.
        predict: Returns outputs of a fitted estimator.
        loss: The loss that the gates compare.
        budget: Limits.
        seed: Of Optuna's sampler; the same seed and number of trials give the same parameters.
        fit: Fits an estimator as the candidate is fitted.

    Raises:
        RetrainingError: Optuna is not installed, or no trial has succeeded.
    """
    optuna = _optuna()

    def loss_of(parameters: Mapping[str, Any]) -> float:
        losses = []
        for fold in folds:
            made = make().set_params(**parameters)
            estimator = fit(made, features.iloc[fold.train], labels[fold.train])
            losses.append(loss(predict(estimator, features.iloc[fold.test]), labels[fold.test]))
        return float(np.mean(losses))

    made: list[Trial] = []

    def objective(trial: Any) -> float:
        parameters = dict(space(trial))
        made.append(Trial(parameters, float("inf")))
        made[-1] = Trial(parameters, loss_of(parameters))
        return made[-1].loss

    default_loss = loss_of({})
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=budget.trials, timeout=budget.seconds, catch=(ValueError,))
    if not any(np.isfinite(each.loss) for each in made):
        raise RetrainingError("training.py: no trial of search_space could be fitted; see the log")
    best = min(made, key=lambda each: each.loss)
    is_better = best.loss < default_loss
    return SearchResult(
        parameters=best.parameters if is_better else {},
        loss=best.loss if is_better else default_loss,
        default_loss=default_loss,
        trials=made,
    )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise RetrainingError(
            "search_space needs optuna, which is not installed: pip install 'driftline[training]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
