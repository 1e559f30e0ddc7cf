"""The outputs of models and the predictions that follow from them, by the declared task. Pure."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from services.runtime.declaration import ModelDeclaration
from streams import codec
from streams.records import FeatureValue

ModelOutputs = npt.NDArray[np.float64]
"""(n,): the probability of class 1 or the regressed value; or (n, n_classes): probabilities."""


class InvalidOutputError(ValueError):
    """A model returned a value that its task does not allow."""


@dataclasses.dataclass(frozen=True)
class PredictionColumns:
    """The values of n predictions."""

    scores: list[float]
    predictions: list[FeatureValue]
    probabilities: Sequence[list[float] | UnsetType]
    """Probabilities of the classes in the declared order; unset for other tasks."""


class PredictionTask:
    """How one model's outputs become predictions."""

    def __init__(self, declaration: ModelDeclaration) -> None:
        """Take the declared task, threshold and classes."""
        self._task = declaration.task
        self._threshold = declaration.threshold
        self._classes = declaration.classes

    def empty(self, count: int) -> ModelOutputs:
        """Return the outputs of n rows without a prediction: nan."""
        return np.full(self._shape(count), np.nan)

    def _shape(self, count: int) -> tuple[int, ...]:
        return (count, len(self._classes)) if self._classes else (count,)

    def checked(self, outputs: Any, count: int) -> ModelOutputs:
        """Return a model's outputs for n rows as float64.

        Raises `InvalidOutputError` for another shape, and for values that are not finite or whose loss would
        not be: the model cannot score such a row.
        """
        found = np.asarray(outputs, dtype=np.float64)
        expected = self._shape(count)
        if found.shape != expected:
            raise InvalidOutputError(f"the model returned the shape {found.shape}, expected {expected}")
        largest = np.abs(found).max(initial=0.0)
        if largest <= codec.MAGNITUDE_MAX:  # False for nan, which is the largest value of all
            return found
        if not np.isfinite(largest):
            raise InvalidOutputError("the model returned a value that is not a finite number")
        raise InvalidOutputError(
            f"the model returned {largest:g}; the absolute value must be at most {codec.MAGNITUDE_MAX:g}"
        )

    def predictions(self, outputs: ModelOutputs) -> PredictionColumns:
        """Return the predictions that follow from outputs of n rows."""
        if self._task == "multiclass":
            best = np.argmax(outputs, axis=1)
            return PredictionColumns(
                scores=outputs[np.arange(len(outputs)), best].tolist(),
                predictions=[self._classes[index] for index in best],
                probabilities=outputs.tolist(),
            )
        scores: list[float] = outputs.tolist()
        unset = [UNSET] * len(scores)
        if self._task == "regression":
            return PredictionColumns(scores, list(scores), unset)
        return PredictionColumns(scores, (outputs >= self._threshold).astype(int).tolist(), unset)
