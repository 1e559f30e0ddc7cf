"""What a version is held to: the declaration that it serves, what it is given, what it may bring along."""

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.model_registry.model_inputs import Columns, Inputs
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

BINARY = 2


class ContractError(ValueError):
    """A model does not do what its model.yaml says, or brings what this installation does not allow."""


class Model(Protocol):
    """A model that is ready to score."""

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""

    def predict(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Return the outputs of n rows; blocking.

        The probability of class 1 of two or a regressed value (n,), else probabilities (n, n_classes) in the
        declared order of the classes.
        """


@dataclasses.dataclass(frozen=True)
class Contract:
    """What one version is held to."""

    settings: Settings
    declaration: ModelDeclaration
    wanted: Inputs
    """What the version asks for, in the order of its signature; checked against what is served."""


def class_order(declaration: ModelDeclaration, classes: list[Any]) -> list[int]:
    """Return where a model has each class of its declaration; `ContractError` unless they are the same."""
    if declaration.task == "binary":
        if [int(each) if isinstance(each, int | float) else each for each in classes] != [0, 1]:
            raise ContractError(
                f"its classes are {_listed(classes)}; a binary model is trained on the labels 0 and 1"
            )
        return [0, 1]
    names = [str(each) for each in classes]
    if sorted(names) != sorted(declaration.classes):
        raise ContractError(
            f"its classes are {_listed(names)}, but model.yaml declares {_listed(declaration.classes)}"
        )
    return [names.index(each) for each in declaration.classes]


def _listed(classes: Any) -> str:
    return ", ".join(map(str, classes)) or "none"
