"""From what a model returns to what a prediction says, by the declared task. Pure."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from services.runtime.declaration import ModelDeclaration
from streams.records import FeatureValue

Outputs = npt.NDArray[np.float64]
"""(n,): the probability of class 1 or the regressed value; or (n, n_classes): probabilities."""


class InvalidOutputError(ValueError):
    """A model returned something that its task does not allow."""


@dataclasses.dataclass(frozen=True)
class Answers:
    """What n predictions say."""

    scores: list[float]
    predictions: list[FeatureValue]
    probabilities: Sequence[list[float] | UnsetType]
    """Of each class, in the declared order; unset for other tasks."""


class Task:
    """One model's kind of answer."""

    def __init__(self, declaration: ModelDeclaration) -> None:
        """Take what is declared: task, threshold, classes."""
        self._task = declaration.task
        self._threshold = declaration.threshold
        self._classes = declaration.classes

    def empty(self, count: int) -> Outputs:
        """Return outputs of n rows that nothing is known of yet: nan."""
        return np.full((count, len(self._classes)) if self._classes else count, np.nan)

    def checked(self, outputs: Any, count: int) -> Outputs:
        """Return a model's outputs for n rows as float64; raise `InvalidOutputError` for another shape.

        A row with something that is no finite number counts as one that the model cannot score.
        """
        found = np.asarray(outputs, dtype=np.float64)
        wanted = self.empty(count).shape
        if found.shape != wanted:
            raise InvalidOutputError(f"the model returned the shape {found.shape}, not {wanted}")
        if not np.isfinite(found).all():
            raise InvalidOutputError("the model returned something that is no finite number")
        return found

    def answers(self, outputs: Outputs) -> Answers:
        """Return what outputs say."""
        if self._task == "multiclass":
            best = np.argmax(outputs, axis=1)
            return Answers(
                scores=outputs[np.arange(len(outputs)), best].tolist(),
                predictions=[self._classes[index] for index in best],
                probabilities=outputs.tolist(),
            )
        scores: list[float] = outputs.tolist()
        none = [UNSET] * len(scores)
        if self._task == "regression":
            return Answers(scores, list(scores), none)
        return Answers(scores, (outputs >= self._threshold).astype(int).tolist(), none)
