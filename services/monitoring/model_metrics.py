"""Loss, error and cost of a prediction whose label is known, by task. Pure.

The first measure of each task is its loss, which loss alarms are about:

- binary: ``log_loss``; ``accuracy``, ``brier``, ``false_positive`` and ``false_negative``, the last two as
  shares of all predictions;
- multiclass: ``log_loss`` of the true class; ``accuracy``;
- regression: ``absolute_error``; ``squared_error``, ``bias`` (predicted value minus label).

A model that declares what its mistakes cost has ``cost`` as well, in the declared unit.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.runtime.declaration import Business, ModelDeclaration

PROBABILITY_MIN = 1e-7
"""Scores are clipped to [this, 1 - this] in every log loss: one certain and wrong prediction costs 16.1, not
infinity. It is about the resolution of float32."""
LOG_LOSS_MAX = 4.0
"""Confidence intervals and detectors clip losses here. Clipping lowers the mean, so it causes no alarm."""
COST = "cost"
_NAMES = {
    "binary": ("log_loss", "accuracy", "brier", "false_positive", "false_negative"),
    "multiclass": ("log_loss", "accuracy"),
    "regression": ("absolute_error", "squared_error", "bias"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class NumericPrediction:
    """A prediction as numbers."""

    score: float
    predicted: float
    """Binary: 0 or 1; multiclass: the index of the class in the declared order; else the regressed value."""
    probabilities: Sequence[float] = ()
    """Multiclass: the probability of each class, in the declared order."""


class MeasureRange(NamedTuple):
    """The range to which values of a measure are clipped, for confidence intervals and detectors."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return the clipped value as a share of the range, 0 to 1.

        >>> MeasureRange(0, 4).share(1), MeasureRange(0, 4).share(9)
        (0.25, 1.0)
        """
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


class Measures:
    """Computes the measures of one model."""

    def __init__(self, declaration: ModelDeclaration) -> None:
        """Read task, classes, decision threshold and costs from the declaration."""
        self.task = declaration.task
        self.classes = declaration.classes
        self.threshold = declaration.threshold
        """Binary: the score from which the prediction is 1."""
        self._business = declaration.business
        self._costs = _cost_table(declaration)
        self.names = _NAMES[declaration.task] + ((COST,) if declaration.business else ())

    @property
    def loss(self) -> str:
        """The name of the loss measure."""
        return self.names[0]

    def values(self, given: NumericPrediction, label: float) -> list[float]:
        """Return the value of each measure for one prediction, in the order of ``names``."""
        if self.task == "regression":
            error = given.score - label
            values = [abs(error), error * error, error]
        else:
            right = given.predicted == label
            if self.task == "binary":
                values = [log_loss(label, given.score), float(right), (given.score - label) ** 2,
                          float(not right and not label), float(not right and bool(label))]  # fmt: skip
            else:
                values = [log_loss(1.0, given.probabilities[int(label)]), float(right)]
        if self._business is not None:
            values.append(self._cost_of(given.predicted, label))
        return values

    def predicted_value(self, score: float) -> float:
        """Return the predicted value that follows from a score; not for a multiclass model."""
        return score if self.task == "regression" else float(score >= self.threshold)

    def recorded_loss(self, values: Sequence[float]) -> float:
        """Return the loss that outcome records hold: log loss, or squared error for a regression."""
        return values[self.names.index("squared_error")] if self.task == "regression" else values[0]

    def cost(self, values: Sequence[float]) -> float | None:
        """Return the cost among the values; None if no costs are declared."""
        return values[-1] if self._business is not None else None

    def loss_of_score(self, score: float, label: float) -> float | None:
        """Return the loss of a score alone, as shadows have; None for a multiclass model."""
        if self.task == "multiclass":
            return None
        return log_loss(label, score) if self.task == "binary" else abs(score - label)

    def ranges(self, error_max: float | None) -> list[MeasureRange] | None:
        """Return the range of each measure; for a regression from its error scale, None without one."""
        if self.task != "regression":
            ranges = [MeasureRange(0.0, LOG_LOSS_MAX)] + [MeasureRange(0.0, 1.0)] * (
                len(_NAMES[self.task]) - 1
            )
        elif error_max is None:
            return None
        else:
            ranges = [
                MeasureRange(0.0, error_max),
                MeasureRange(0.0, error_max**2),
                MeasureRange(-error_max, error_max),
            ]
        if self._business is not None:
            ranges.append(_cost_range(self._business, self._costs, error_max))
        return ranges

    def _cost_of(self, predicted: float, label: float) -> float:
        assert self._business is not None, "only with declared costs"
        if self._costs:
            return self._costs[int(predicted)][int(label)]
        return _error_cost(self._business, predicted - label)


def log_loss(label: float, score: float) -> float:
    """Return the log loss of one probability, in nats, the probability clipped at `PROBABILITY_MIN`.

    >>> round(log_loss(1.0, 0.5), 4)
    0.6931
    """
    clipped = min(max(score, PROBABILITY_MIN), 1 - PROBABILITY_MIN)
    return -math.log(clipped) if label else -math.log1p(-clipped)


def log_losses(labels: npt.NDArray[np.number], scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the log loss of each probability (n,), as `log_loss` does, for labels (n,) of 0 and 1."""
    clipped = np.clip(scores.astype(np.float64), PROBABILITY_MIN, 1 - PROBABILITY_MIN)
    losses: npt.NDArray[np.float64] = -np.where(labels > 0.5, np.log(clipped), np.log1p(-clipped))
    return losses


def _cost_table(declaration: ModelDeclaration) -> list[list[float]]:
    """Return the cost by predicted and true class; empty for a regression or without declared costs."""
    if declaration.business is None or declaration.task == "regression":
        return []
    names = declaration.class_names
    return [[declaration.business.costs[predicted][true] for true in names] for predicted in names]


def _cost_range(business: Business, costs: list[list[float]], error_max: float | None) -> MeasureRange:
    possible = [cost for row in costs for cost in row]
    if not possible:
        assert error_max is not None, "the ranges of a regression follow from its error scale"
        possible = [0.0, _error_cost(business, error_max), _error_cost(business, -error_max)]
    low, high = min(possible), max(possible)
    return MeasureRange(low, high if high > low else low + 1.0)


def _error_cost(business: Business, error: float) -> float:
    return business.over * max(error, 0.0) + business.under * max(-error, 0.0)
