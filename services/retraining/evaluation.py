"""The split by time, and the measures of a model on rows that it was not trained on. Pure."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from services.monitoring.model_metrics import COST, log_losses
from services.runtime.declaration import Business, ModelDeclaration

if TYPE_CHECKING:
    import pandas as pd

Numbers = npt.NDArray[np.float64]
Predict = Callable[[Any, "pd.DataFrame"], Numbers]
"""Returns the outputs of a fitted estimator, see `services.model_registry.contract.Model`."""
RowLosses = Callable[[Numbers, Numbers], Numbers]
"""Returns the loss (n,) of each row for outputs and labels."""
CALIBRATION_BINS = 10
"""Bins of the calibration error, with equal numbers of rows."""
ERROR_QUANTILES = {"absolute_error_p50": 0.5, "absolute_error_p90": 0.9, "absolute_error_p99": 0.99}


@dataclasses.dataclass(frozen=True)
class ClassifierMetrics:
    """Metrics of one model on one set of rows."""

    log_loss: float
    auc: float
    """nan if only one class occurs."""
    accuracy: float
    brier: float

    def named(self, prefix: str = "") -> dict[str, float]:
        """Return the finite metrics by name."""
        values = dataclasses.asdict(self)
        return {prefix + name: value for name, value in values.items() if np.isfinite(value)}


def losses(declaration: ModelDeclaration, outputs: Numbers, labels: Numbers) -> dict[str, Numbers]:
    """Return the losses (n,) of each row by name; less is better.

    The names are those of `services.runtime.declaration.LOSSES`; ``cost`` is there if costs are declared.
    Probabilities are clipped as in `services.monitoring.model_metrics`.

    Args:
        declaration: Task, classes, threshold and costs.
        outputs: (n,) or (n, n_classes), see `services.model_registry.contract.Model`.
        labels: (n,), see `streams.records.Label.value`.
    """
    found = _losses_of(declaration.task, outputs, labels)
    if declaration.business is not None:
        predicted = predictions(declaration, outputs)
        found[COST] = _costs(declaration.business, declaration.class_names, predicted, labels)
    return found


def compared_losses(declaration: ModelDeclaration, outputs: Numbers, labels: Numbers) -> Numbers:
    """Return the loss (n,) of each row that the gates compare; arguments are those of `losses`."""
    found = losses(declaration, outputs, labels)
    return found[declaration.gates.metric_of(declaration.task) if declaration.gates else next(iter(found))]


def measures(declaration: ModelDeclaration, outputs: Numbers, labels: Numbers) -> dict[str, float]:
    """Return the measures of n > 0 rows by name, those of `services.runtime.declaration.MEASURES`.

    The mean of each loss comes first. A measure that these rows do not define, such as the AUC of one class,
    is left out; an output that is no number leaves none. Those of a multiclass model are unweighted means
    over its classes; AUC and average precision are of each class against all others. Arguments are those of
    `losses`.
    """
    if not np.isfinite(outputs).all():
        return {}
    found = {name: float(each.mean()) for name, each in losses(declaration, outputs, labels).items()}
    if declaration.task == "regression":
        found |= _of_errors(outputs, labels)
    else:
        found |= _of_predictions(predictions(declaration, outputs), labels, declaration.task)
        found |= _of_ranks(outputs, labels)
        found["calibration_error"] = calibration_error(*certainties(outputs, labels))
    return {name: value for name, value in found.items() if np.isfinite(value)}


def predictions(declaration: ModelDeclaration, outputs: Numbers) -> Numbers:
    """Return the predicted values (n,): 0 or 1, the index of the class, or the value of a regression."""
    if declaration.task == "regression":
        return outputs
    decided = outputs.argmax(axis=1) if outputs.ndim > 1 else outputs >= declaration.threshold
    return decided.astype(np.float64)


def calibration_error(scores: Numbers, labels: Numbers) -> float:
    """Return the expected calibration error of probabilities (n,) for labels (n,) of 0 and 1.

    It is the mean distance of predicted and realised share over bins with equal numbers of rows.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities", 2015.
    """
    gaps = [len(rows) * abs(float((labels[rows] - scores[rows]).mean())) for rows in score_bins(scores)]
    return sum(gaps) / len(scores)


def score_bins(scores: Numbers, bins: int = CALIBRATION_BINS) -> list[npt.NDArray[np.intp]]:
    """Return the rows of each bin of equal size, the lowest scores first; no bin is empty."""
    return np.array_split(np.argsort(scores, kind="stable"), min(bins, len(scores)))


def held_out(event_times_ms: npt.NDArray[np.int64], holdout_ms: int) -> npt.NDArray[np.bool_]:
    """Tell for each row (n,) whether it belongs to the latest ``holdout_ms`` of event time.

    The split is by time, not at random: the candidate is evaluated on days later than all its training rows.
    """
    if not len(event_times_ms):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(event_times_ms > event_times_ms.max() - holdout_ms)


def evaluate(labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> ClassifierMetrics:
    """Return the metrics of scores (n,), probabilities of label 1, for labels (n,) of 0 and 1; n > 0."""
    return ClassifierMetrics(
        log_loss=float(log_losses(labels, scores).mean()),
        auc=auc(labels, scores),
        accuracy=float(np.mean((scores >= 0.5) == (labels == 1))),
        brier=float(np.mean((scores - labels) ** 2)),
    )


def auc(labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> float:
    """Return the share of pairs in which the positive scores higher; ties count half (Mann-Whitney U)."""
    positives = int(np.count_nonzero(labels == 1))
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, groups, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[groups]
    rank_sum = float(ranks[labels == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def _losses_of(task: str, outputs: Numbers, labels: Numbers) -> dict[str, Numbers]:
    if task == "regression":
        errors = outputs - labels
        return {"absolute_error": np.abs(errors), "squared_error": errors**2}
    if outputs.ndim == 1:
        return {"log_loss": log_losses(labels, outputs), "brier": (outputs - labels) ** 2}
    rows, numbers = np.arange(len(labels)), labels.astype(np.intp)
    of_label = outputs[rows, numbers]
    brier = (outputs**2).sum(axis=1) - of_label**2 + (1 - of_label) ** 2
    return {"log_loss": log_losses(np.ones(len(labels)), of_label), "brier": brier}


def _costs(business: Business, names: tuple[str, ...], predicted: Numbers, labels: Numbers) -> Numbers:
    if not names:
        errors = predicted - labels
        return business.over * np.maximum(errors, 0.0) + business.under * np.maximum(-errors, 0.0)
    table = np.array([[business.costs[answer][label] for label in names] for answer in names])
    found: Numbers = table[predicted.astype(np.intp), labels.astype(np.intp)]
    return found


def _of_errors(outputs: Numbers, labels: Numbers) -> dict[str, float]:
    errors = outputs - labels
    spread = float(((labels - labels.mean()) ** 2).sum())
    squares = float((errors**2).sum())
    return {
        "rmse": float(np.sqrt(squares / len(errors))),
        "r2": 1 - squares / spread if spread else float("nan"),
        "bias": float(errors.mean()),
        **{name: float(np.quantile(np.abs(errors), share)) for name, share in ERROR_QUANTILES.items()},
    }


def _of_predictions(predicted: Numbers, labels: Numbers, task: str) -> dict[str, float]:
    from sklearn.metrics import precision_recall_fscore_support

    average = "binary" if task == "binary" else "macro"
    figures = precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)[:3]
    named = dict(zip(("precision", "recall", "f1"), map(float, figures), strict=True))
    return named | {"accuracy": float(np.mean(predicted == labels))}


def _of_ranks(outputs: Numbers, labels: Numbers) -> Mapping[str, float]:
    """Return AUC and average precision; nan unless each class has labels."""
    from sklearn.metrics import average_precision_score

    columns = {1: outputs} if outputs.ndim == 1 else dict(enumerate(outputs.T))
    flags = {number: (labels == number).astype(np.int8) for number in columns}
    if not all(0 < np.count_nonzero(each) < len(labels) for each in flags.values()):
        return {}
    return {
        "auc": float(np.mean([auc(flags[number], column) for number, column in columns.items()])),
        "average_precision": float(
            np.mean([average_precision_score(flags[number], column) for number, column in columns.items()])
        ),
    }


def certainties(outputs: Numbers, labels: Numbers) -> tuple[Numbers, Numbers]:
    """Return probabilities (n,) and whether they came true; of many classes that of the predicted one."""
    if outputs.ndim == 1:
        return outputs, labels
    return outputs.max(axis=1), (outputs.argmax(axis=1) == labels).astype(np.float64)
